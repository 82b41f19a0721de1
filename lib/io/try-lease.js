'use strict'

const { cacheOf } = require('../pool/buffer-pool')

/**
 * A block for what is faster with it and goes on without it: `undefined` where the pool has no room for it
 * at once.
 *
 * @param {import('../pool/buffer-pool').BufferPool} pool
 * @param {number} size
 */
function tryLease(pool, size) {
  const cache = cacheOf(pool)
  if (size > cache.largest) return undefined
  try {
    return cache.tryLease(size)
  } catch {
    // The system has no memory: the next `acquire` will tell.
    return undefined
  }
}

module.exports = { tryLease }
