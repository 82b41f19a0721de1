'use strict'

const { WeakReference, deref, table } = require('../runtime/intrinsics')

/**
 * The pools of this thread that have a handle: who attaches where the pool is at home already gets
 * that one, and not a second set of magazines.
 *
 * @type {Map<string, WeakRef<import('./buffer-pool').BufferPool>>}
 */
const ends = new Map()

const { max } = Math

/** The lowWatermark pools among which those that have gone are looked for. */
const FEWEST = 64

/** With so many pools they are looked for next: twice as many as were left last time. */
let limit = FEWEST

/** How many there are. A Map's own `size` is within reach of other code. */
let count = 0

/** @param {string} key a handle's */
function find(key) {
  const end = table.get(ends, key)
  return end && deref(/** @type {WeakRef<import('./buffer-pool').BufferPool>} */ (end))
}

/**
 * @param {string} key
 * @param {import('./buffer-pool').BufferPool} pool
 */
function add(key, pool) {
  if (find(key) === pool) return
  if (table.get(ends, key) === undefined) count++
  table.set(ends, key, new WeakReference(pool))
  if (count < limit) return
  table.forEach(ends, forgetGone)
  limit = max(2 * count, FEWEST)
}

/**
 * @param {WeakRef<import('./buffer-pool').BufferPool>} end
 * @param {string} key
 */
function forgetGone(end, key) {
  if (deref(end) !== undefined) return
  table.delete(ends, key)
  count--
}

module.exports = { add, find }
