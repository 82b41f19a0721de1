'use strict'

/**
 * The way of `detachOnRelease: true`: a release moves the memory to a new ArrayBuffer that nobody
 * else knows, and every view of the old one gets length zero. A stale reference can neither read
 * nor write the next owner's data.
 *
 * - The plain way MUST NOT call into Rust if the runtime has `transfer()`.
 * - `lease` and `giveBack` MUST stay small: V8 compiles them into their callers.
 *
 * Collaborators: `ThreadCache`, `Magazine`, `Slot`.
 */

const { LEASED, STATE } = require('./thread-counters')
const { FastBuffer, transfer, zero } = require('../runtime/intrinsics')
const { classOf } = require('./size-class')
const { hang, rehang } = require('./tag')

/**
 * Leases a Buffer on an idle block; returns `undefined` at the ceiling, or if the pool is closed.
 *
 * @param {import('./thread-cache').ThreadCache} cache
 * @param {number} size whole, from 1 to the largest block size
 * @returns {Buffer | undefined}
 */
function lease(cache, size) {
  const magazine = cache.magazines[classOf(size)]
  const slot = magazine.take()
  if (slot === undefined) return cache.fill(magazine) ? lease(cache, size) : undefined
  cache.book(magazine, slot, size)
  return new FastBuffer(/** @type {ArrayBuffer} */ (slot.arrayBuffer), 0, size)
}

/**
 * Takes a leased block back. Every view of it becomes zero-length.
 *
 * @param {import('./thread-cache').ThreadCache} cache
 * @param {import('./slot').Slot} slot
 * @param {object} arrayBuffer that carries the slot
 * @returns {boolean} false if the block is back already, or its ArrayBuffer was transferred or
 *   can't be detached: then nothing has changed
 */
function giveBack(cache, slot, arrayBuffer) {
  const { magazine } = slot
  if (magazine === null || slot.arrayBuffer !== arrayBuffer) return false
  // No other code ever has an ArrayBuffer that is attached and idle. A second check is cheap.
  if (slot.words[slot.at + STATE] !== LEASED) return false
  if (transfer === undefined) return cache.giveBackByFinalizer(slot, magazine)
  let moved
  try {
    moved = transfer(slot.arrayBuffer)
  } catch {
    return false
  }
  if (cache.scrubs) zero(moved)
  hang(moved, slot)
  // Otherwise a stale view would lead to the next owner's ArrayBuffer, and keep it alive.
  rehang(arrayBuffer, cache.gone)
  slot.arrayBuffer = moved
  cache.putBack(slot, magazine)
  return true
}

module.exports = { giveBack, lease }
