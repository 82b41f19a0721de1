'use strict'

const { WeakReference, deref, table } = require('./runtime')

/**
 * The pools of this thread that have a handle: who attaches where the pool is at home already gets
 * that one, and not a second set of magazines.
 *
 * @type {Map<string, WeakRef<import('./buffer-pool').BufferPool>>}
 */
const ends = new Map()

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
  table.forEach(ends, forgetGone)
  table.set(ends, key, new WeakReference(pool))
}

/**
 * @param {WeakRef<import('./buffer-pool').BufferPool>} end
 * @param {string} key
 */
function forgetGone(end, key) {
  if (deref(end) === undefined) table.delete(ends, key)
}

module.exports = { add, find }
