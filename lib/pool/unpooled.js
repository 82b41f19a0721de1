'use strict'

/**
 * Leases that V8's memory serves: at the ceiling, above `maxBlockSize`, and of size 0. Their slots
 * have no magazine and no row; the core knows them by address and length (`src/pool/unpooled.rs`).
 */

const { Buffer } = require('node:buffer')
const native = require('../runtime/native')
const {
  Floats,
  allocUnsafeSlow,
  arrayBufferOf,
  bufferOver,
  transfer,
  zero,
  zeroFill
} = require('../runtime/intrinsics')
const { Slot } = require('../cache/slot')
const {
  IDLE,
  LEASED,
  STATE,
  UNPOOLED_BYTES,
  UNPOOLED_COUNT,
  UNPOOLED_RELEASES
} = require('../cache/thread-counters')
const { Closed, Undetachable } = require('./errors')

/** @typedef {import('../cache/thread-cache').ThreadCache} ThreadCache */

const { alloc } = Buffer
const { headColumns, columnsPerRow } = native.layout()

/** The length of an array that holds one row, as a segment of one row would. */
const ONE_ROW = headColumns + columnsPerRow

/**
 * Leases memory of V8's.
 *
 * @param {ThreadCache} cache
 * @param {number} size
 * @param {boolean} zeroed
 * @returns {Buffer}
 */
function leaseUnpooled(cache, size, zeroed) {
  if (cache.isClosed) throw new Closed(cache.name)
  // An empty one gets memory, too: another thread can identify it only by its address.
  const isZero = zeroed || zeroFill || size === 0
  const whole = isZero ? alloc(size === 0 ? 1 : size) : allocUnsafeSlow(size)
  const arrayBuffer = /** @type {ArrayBuffer} */ (arrayBufferOf(whole))
  const guard = native.noteUnpooled(cache.attachment, arrayBuffer)
  cache.words[UNPOOLED_COUNT]++
  cache.words[UNPOOLED_BYTES] += size
  const words = new Floats(ONE_ROW)
  const slot = new Slot(cache.pool, null, arrayBuffer, words, 0)
  words[slot.at + STATE] = LEASED
  slot.guard = guard
  return size === 0 ? bufferOver(arrayBuffer, 0) : whole
}

/**
 * Releases memory of V8's. Where release detaches, V8 gets it back at once, without the garbage
 * collector.
 *
 * @param {ThreadCache} cache
 * @param {Slot} slot leased
 * @param {ArrayBuffer} arrayBuffer the slot's
 * @param {ArrayBufferView | ArrayBuffer} view for the error's message
 */
function releaseUnpooled(cache, slot, arrayBuffer, view) {
  const { detaches } = cache
  const last = detaches ? moveMemory(cache, arrayBuffer, view) : arrayBuffer
  if (cache.scrubs) zero(last)
  slot.words[slot.at + STATE] = IDLE
  const { guard } = slot
  slot.forget()
  cache.words[UNPOOLED_RELEASES]++
  // This comes before the memory is freed: after that V8 may give its address to another thread.
  native.releaseUnpooled(cache.attachment, last, detaches)
  if (detaches) detach(last)
  // As long as the ArrayBuffer lives, the core must know that its memory was released.
  else slot.guard = guard
}

/**
 * Moves the memory of a leased ArrayBuffer to one that no other code knows, so that later steps
 * can't fail. Returns the ArrayBuffer itself on a runtime that can't move memory.
 *
 * @param {ThreadCache} cache
 * @param {ArrayBuffer} arrayBuffer
 * @param {ArrayBufferView | ArrayBuffer} view for the error's message
 */
function moveMemory(cache, arrayBuffer, view) {
  if (transfer === undefined) return arrayBuffer
  try {
    // Node would abort on an ArrayBuffer that the user has marked as untransferable; `transfer()`
    // throws.
    return transfer(arrayBuffer)
  } catch {
    throw new Undetachable(cache.name, view)
  }
}

/**
 * Detaches an ArrayBuffer of V8's that nobody has marked as untransferable.
 *
 * @param {ArrayBuffer} arrayBuffer
 */
function detach(arrayBuffer) {
  if (transfer === undefined) native.discard(arrayBuffer)
  else transfer(arrayBuffer, 0)
}

module.exports = { leaseUnpooled, moveMemory, releaseUnpooled }
