'use strict'

const { rackOf } = require('../buffer-pool')
const detaching = require('../detaching')

/**
 * Whether a view of a released block can neither read nor write it any more: then a writable that goes on with one
 * sends nothing.
 *
 * @param {import('../buffer-pool').BufferPool} pool
 */
const detaches = (pool) => rackOf(pool).way === detaching

module.exports = { detaches }
