'use strict'

/**
 * The pools of this thread that have a handle: who attaches where the pool is at home already gets
 * that one, and not a second set of magazines.
 *
 * @type {Map<string, WeakRef<import('./buffer-pool').BufferPool>>}
 */
const ends = new Map()

/** @param {string} key a handle's */
function find(key) {
  return ends.get(key)?.deref()
}

/**
 * @param {string} key
 * @param {import('./buffer-pool').BufferPool} pool
 */
function add(key, pool) {
  if (find(key) === pool) return
  for (const [other, end] of ends) {
    if (end.deref() === undefined) ends.delete(other)
  }
  ends.set(key, new WeakRef(pool))
}

module.exports = { add, find }
