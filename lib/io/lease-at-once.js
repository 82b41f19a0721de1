'use strict'

const { arrayBufferOf } = require('../runtime')
const { slotOf } = require('../tag')

/**
 * A block for what is faster with it and goes on without it: `undefined` where the pool has no room for it
 * at once.
 *
 * @param {import('../buffer-pool').BufferPool} pool
 * @param {number} size
 */
function leaseAtOnce(pool, size) {
  let block
  try {
    block = pool.allocUnsafe(size)
  } catch {
    // Closed, or at its ceiling: both are for the next `acquire` to tell.
    return undefined
  }
  const isPooled = slotOf(arrayBufferOf(block))?.magazine !== null
  if (isPooled) return block
  pool.release(block)
  return undefined
}

module.exports = { leaseAtOnce }
