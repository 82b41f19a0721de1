'use strict'

/**
 * Leasing with a safe release: the memory moves to a new ArrayBuffer that nobody else knows, and
 * every view of the old one has length zero. A stale reference can neither read nor write the
 * next owner's data.
 *
 * Nothing on the way of a lease calls into Rust, where the runtime has `transfer()`.
 */

const { LEASED, STATE } = require('./thread-counters')
const { FastBuffer, transfer, zero } = require('../runtime/intrinsics')
const { classOf } = require('./size-class')
const { hang, rehang } = require('./tag')

/**
 * A Buffer on an idle block; `undefined` where the pool is closed.
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
 * Takes a leased block back; every view of it becomes zero-length. Whether it could be taken:
 * not where it is back already, or its ArrayBuffer was transferred or can't be detached, which
 * leaves everything as it is.
 *
 * @param {import('./thread-cache').ThreadCache} cache
 * @param {import('./slot').Slot} slot
 * @param {object} arrayBuffer that carries the slot
 */
function giveBack(cache, slot, arrayBuffer) {
  const { magazine } = slot
  if (magazine === null || slot.arrayBuffer !== arrayBuffer) return false
  // Nobody outside ever has an ArrayBuffer that is attached and idle; a second look is cheap.
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
  // Otherwise a stale view would lead to the next owner's ArrayBuffer, and keep it from the garbage
  // collector.
  rehang(arrayBuffer, cache.gone)
  slot.arrayBuffer = moved
  cache.putBack(slot, magazine)
  return true
}

module.exports = { giveBack, lease }
