'use strict'

const { WeakReference, table } = require('./runtime')

/**
 * The pools of this thread that have a handle: who attaches where the pool is at home already gets
 * that one, and not a second set of magazines.
 *
 * @type {Map<string, WeakRef<import('./buffer-pool').BufferPool>>}
 */
const ends = new Map()

/** With so many pools those that have gone are looked for: twice as many as were left last time. */
let limit = 64

/** @param {string} key a handle's */
function find(key) {
  return table.get(ends, key)?.deref()
}

/**
 * @param {string} key
 * @param {import('./buffer-pool').BufferPool} pool
 */
function add(key, pool) {
  if (find(key) === pool) return
  table.set(ends, key, new WeakReference(pool))
  if (ends.size < limit) return
  table.forEach(ends, (/** @type {WeakRef<object>} */ end, /** @type {string} */ other) => {
    if (end.deref() === undefined) table.delete(ends, other)
  })
  limit = Math.max(64, 2 * ends.size)
}

module.exports = { add, find }
