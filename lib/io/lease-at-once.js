'use strict'

const { rackOf } = require('../buffer-pool')

/**
 * A block for what is faster with it and goes on without it: `undefined` where the pool has no room for it
 * at once.
 *
 * @param {import('../buffer-pool').BufferPool} pool
 * @param {number} size
 */
function leaseAtOnce(pool, size) {
  const rack = rackOf(pool)
  if (size > rack.largest) return undefined
  try {
    return rack.leaseAtOnce(size)
  } catch {
    // The system has no memory: the next `acquire` will tell.
    return undefined
  }
}

module.exports = { leaseAtOnce }
