'use strict'

/**
 * The way of `detachOnRelease: false`: one ArrayBuffer serves lease after lease, and so does its
 * Buffer as long as the length stays the same.
 *
 * - The plain way MUST NOT allocate or call into Rust.
 * - `lease` and `giveBack` MUST stay small: V8 compiles them into their callers.
 *
 * Collaborators: `ThreadCache`, `Magazine`, `Slot`.
 */

const { LEASED, STATE } = require('./thread-counters')
const {
  Bytes,
  FastBuffer,
  arrayBufferOf,
  byteLengthOf,
  isUint8Array,
  lengthOf,
  zero
} = require('../runtime/intrinsics')
const { classOf } = require('./size-class')

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
  const { view } = slot
  // An element shows whether the memory is still there: nothing on the Buffer can override it.
  if (slot.size !== size || view[0] === undefined) return leaseOtherLength(cache, slot, size)
  cache.book(magazine, slot, size)
  return view
}

/**
 * Leases a block whose last Buffer has another length, or no memory any more.
 *
 * @param {import('./thread-cache').ThreadCache} cache
 * @param {import('./slot').Slot} slot idle, and in no magazine any more
 * @param {number} size
 * @returns {Buffer | undefined}
 */
function leaseOtherLength(cache, slot, size) {
  const magazine = /** @type {import('./magazine').Magazine} */ (slot.magazine)
  const arrayBuffer = /** @type {ArrayBuffer} */ (slot.arrayBuffer)
  if (byteLengthOf(arrayBuffer) === 0) {
    cache.dropMoved(magazine)
    return lease(cache, size)
  }
  const view = new FastBuffer(arrayBuffer, 0, size)
  // Other code can replace the class of Buffers. Only a real view of the memory shows later whether
  // that is still there.
  const isView =
    isUint8Array(view) && arrayBufferOf(view) === arrayBuffer && lengthOf(view) === size
  slot.view = isView ? view : new Bytes(arrayBuffer, 0, size)
  slot.size = isView ? size : 0
  cache.book(magazine, slot, size)
  return view
}

/**
 * Takes a leased block back.
 *
 * @param {import('./thread-cache').ThreadCache} cache
 * @param {import('./slot').Slot} slot
 * @returns {boolean} false if it is back already, or its ArrayBuffer was transferred: then nothing
 *   has changed
 */
function giveBack(cache, slot) {
  // A slot without an ArrayBuffer has no view of memory, and neither has a slot for V8's memory.
  if (slot.view[0] === undefined || slot.words[slot.at + STATE] !== LEASED) return false
  if (cache.scrubs) zero(/** @type {ArrayBuffer} */ (slot.arrayBuffer))
  cache.putBack(slot, /** @type {import('./magazine').Magazine} */ (slot.magazine))
  return true
}

module.exports = { giveBack, lease }
