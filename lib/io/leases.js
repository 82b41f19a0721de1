'use strict'

/** Leases that a call can do without, and the release of blocks that other code has seen. */

const detaching = require('../cache/detach')
const { cacheOf } = require('../pool/buffer-pool')
const { endLease } = require('../pool/lease')

/** @typedef {import('../pool/buffer-pool').BufferPool} BufferPool */

/**
 * Leases a block for work that is faster with it and goes on without it. Returns `undefined` where
 * the pool has no room for it at once.
 *
 * @param {BufferPool} pool
 * @param {number} size
 */
function tryLease(pool, size) {
  const cache = cacheOf(pool)
  if (size > cache.largest) return undefined
  try {
    return cache.tryLease(size)
  } catch {
    // The system has no memory. The next `acquire` reports it.
    return undefined
  }
}

/**
 * Ends a lease. Code that was shown the block may have marked it as untransferable: then the
 * garbage collector returns it.
 *
 * @param {import('../pool/lease').Lease} lease
 */
function giveBack(lease) {
  try {
    endLease(lease)
  } catch {
    // As above.
  }
}

/**
 * Returns whether the views of a released block can neither read nor write it. A writable that
 * still sends one sends nothing then. Otherwise it would send the next owner's bytes.
 *
 * @param {BufferPool} pool
 */
const detaches = (pool) => cacheOf(pool).way === detaching

module.exports = { detaches, giveBack, tryLease }
