'use strict'

/**
 * Finds the pools of this thread that have a handle. A thread that attaches to a pool which it
 * already has gets that one, and not a second thread cache.
 */

const { WeakReference, deref, table } = require('../runtime/intrinsics')

/**
 * The pools by the keys of their handles.
 *
 * @type {Map<string, WeakRef<import('./buffer-pool').BufferPool>>}
 */
const pools = new Map()

const { max } = Math

/** The fewest entries among which `add` looks for pools that have been collected. */
const FEWEST = 64

/** The number of entries at which it looks next: twice as many as were left last time. */
let limit = FEWEST

/** The number of entries. Other code can replace a Map's own `size`. */
let count = 0

/**
 * Returns this thread's pool with a key, if there is one.
 *
 * @param {string} key a handle's
 */
function find(key) {
  const pool = table.get(pools, key)
  return pool && deref(/** @type {WeakRef<import('./buffer-pool').BufferPool>} */ (pool))
}

/**
 * Adds a pool.
 *
 * @param {string} key
 * @param {import('./buffer-pool').BufferPool} pool
 */
function add(key, pool) {
  if (find(key) === pool) return
  if (table.get(pools, key) === undefined) count++
  table.set(pools, key, new WeakReference(pool))
  if (count < limit) return
  table.forEach(pools, forgetGone)
  limit = max(2 * count, FEWEST)
}

/**
 * @param {WeakRef<import('./buffer-pool').BufferPool>} pool
 * @param {string} key
 */
function forgetGone(pool, key) {
  if (deref(pool) !== undefined) return
  table.delete(pools, key)
  count--
}

module.exports = { add, find }
