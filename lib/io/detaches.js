'use strict'

const { cacheOf } = require('../pool/buffer-pool')
const detaching = require('../cache/detach')

/**
 * Whether a view of a released block can neither read nor write it any more: then a writable that goes on with one
 * sends nothing.
 *
 * @param {import('../pool/buffer-pool').BufferPool} pool
 */
const detaches = (pool) => cacheOf(pool).way === detaching

module.exports = { detaches }
