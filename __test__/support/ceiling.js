'use strict'

/** Shared by the tests of the ceiling: filling a pool and emptying it. */

const KIB = 1024
const MIB = 1024 * KIB

const EXHAUSTED = { name: 'RangeError', code: 'ERR_CISTERN_EXHAUSTED' }

/**
 * Leases blocks of one size until the ceiling is reached.
 *
 * @param {BufferPool} pool that has nothing leased
 * @param {number} size a block's
 */
function fill(pool, size) {
  const count = Math.floor(pool.stats().maxBytes / size)
  return Array.from({ length: count }, () => pool.allocUnsafe(size))
}

/**
 * @param {BufferPool} pool
 * @param {Iterable<Buffer>} buffers
 */
function releaseAll(pool, buffers) {
  for (const buffer of buffers) pool.release(buffer)
}

module.exports = { EXHAUSTED, KIB, MIB, fill, releaseAll }
