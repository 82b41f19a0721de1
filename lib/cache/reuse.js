'use strict'

/**
 * Leasing without detaching: one ArrayBuffer serves lease after lease, and its Buffer too while
 * the length stays the same.
 *
 * Nothing on the way of a lease allocates or calls into Rust.
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
  const { view } = slot
  // Whether the memory is still there, asked in a way that nothing on the Buffer can answer.
  if (slot.size !== size || view[0] === undefined) return leaseOtherLength(cache, slot, size)
  cache.book(magazine, slot, size)
  return view
}

/**
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
  // The class of Buffers is within reach of other code: what tells later whether the memory is still there
  // must be a view of it.
  const isView =
    isUint8Array(view) && arrayBufferOf(view) === arrayBuffer && lengthOf(view) === size
  slot.view = isView ? view : new Bytes(arrayBuffer, 0, size)
  slot.size = isView ? size : 0
  cache.book(magazine, slot, size)
  return view
}

/**
 * Takes a leased block back. Whether it could be taken: not where it is back already, or its
 * ArrayBuffer was transferred, which leaves everything as it is.
 *
 * @param {import('./thread-cache').ThreadCache} cache
 * @param {import('./slot').Slot} slot
 */
function giveBack(cache, slot) {
  // A slot whose ArrayBuffer is gone has no view, and neither has one whose memory is V8's.
  if (slot.view[0] === undefined || slot.words[slot.at + STATE] !== LEASED) return false
  if (cache.scrubs) zero(/** @type {ArrayBuffer} */ (slot.arrayBuffer))
  cache.putBack(slot, /** @type {import('./magazine').Magazine} */ (slot.magazine))
  return true
}

module.exports = { giveBack, lease }
