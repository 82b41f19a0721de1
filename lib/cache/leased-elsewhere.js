'use strict'

/**
 * Tells whether anything but this thread's own code can end a wait. It counts the leased bytes that
 * have left the thread: posted to another one, or collected and about to return.
 *
 * No counter has that number: a user can post a Buffer without a call to the pool, even before the
 * pool has a handle. So this class stores a weak reference to each slot. Posting a Buffer empties
 * the slot's ArrayBuffer.
 *
 * - It MUST NOT keep a slot alive.
 * - One event-loop turn MUST NOT look at more than SLICE rows.
 *
 * Collaborators: `ThreadUsage`, `Segments`, the core (`runtime/native`).
 */

const { LEASED, SAMPLED, STATE } = require('./thread-counters')
const native = require('../runtime/native')
const { isMainThread } = require('node:worker_threads')
const {
  WeakReference,
  byteLengthOf,
  closeOff,
  deref,
  isExternal,
  lengthOf
} = require('../runtime/intrinsics')
const { UNIT } = require('./magazine')

const { headColumns, segmentShift, columnsPerRow } = native.layout()
const { max } = Math

const ROW_MASK = 2 ** segmentShift - 1

/** The most rows that one event-loop turn looks at: less than a millisecond's worth. */
const SLICE = 4096

class LeasedElsewhere {
  #usage
  #segments
  /** The number of segments that have, or had, known slots. */
  #count = 0
  /** The place where the look continues: the number of a segment, and of a row in it. */
  #segment = 0
  #row = 0
  /** Bytes found so far. */
  #bytes = 0

  /**
   * @param {import('./thread-usage').ThreadUsage} usage
   * @param {import('./segments').Segments} segments
   */
  constructor(usage, segments) {
    this.#usage = usage
    this.#segments = segments
    /** True if another thread may have a Buffer of this pool, and release it. */
    this.isShared = !isMainThread
  }

  /**
   * Stores a weak reference to a slot for as long as its block has the row.
   *
   * @param {import('./slot').Slot} slot in a magazine
   */
  know(slot) {
    const number = slot.row >>> segmentShift
    const segment = this.#segments.byNumber[number]
    this.#count = max(this.#count, number + 1)
    segment.slots[slot.row & ROW_MASK] = new WeakReference(slot)
    segment.blockSize = /** @type {import('./magazine').Magazine} */ (slot.magazine).blockSize
  }

  /**
   * Tells whether anything but this thread's own code can free enough for a block. It can if the
   * block fits under the ceiling beside everything that this thread has leased and not passed on.
   *
   * @param {number} blockSize
   * @returns {boolean | undefined} `undefined` if the look has to go on in another turn: ask again
   */
  canServe(blockSize) {
    const usage = this.#usage
    usage.deductEnded()
    const room = native.holdableBytes(usage.attachment) - blockSize
    const excess = usage.leased * UNIT - room
    if (excess <= 0) return true
    return isExternal ? this.#isAtLeast(excess) : false
  }

  /**
   * Tells whether at least `bytes` bytes are elsewhere.
   *
   * @param {number} bytes above 0
   * @returns {boolean | undefined} `undefined` if the look has to go on in another turn
   */
  #isAtLeast(bytes) {
    const { byNumber } = this.#segments
    let left = SLICE
    for (; this.#segment < this.#count; this.#segment++, this.#row = 0) {
      const segment = byNumber[this.#segment]
      if (segment === undefined || segment.blockSize === 0) continue
      const { words, slots, blockSize } = segment
      const end = lengthOf(words)
      for (;;) {
        const at = headColumns + this.#row * columnsPerRow
        if (at >= end) break
        const slot = slots[this.#row++]
        const isOut = slot !== undefined && isElsewhere(slot, words[at + STATE], this.isShared)
        if (isOut) this.#bytes += blockSize
        if (this.#bytes >= bytes) return this.#end(true)
        if (--left === 0) return undefined
      }
    }
    return this.#end(false)
  }

  /** @param {boolean} isEnough */
  #end(isEnough) {
    this.#segment = 0
    this.#row = 0
    this.#bytes = 0
    return isEnough
  }
}

closeOff(LeasedElsewhere)

/**
 * Tells whether a block is leased and has left this thread.
 *
 * @param {WeakRef<import('./slot').Slot>} reference to its slot
 * @param {number} state of the block
 * @param {boolean} isShared
 */
function isElsewhere(reference, state, isShared) {
  if (state !== LEASED && state !== SAMPLED) return false
  const arrayBuffer = deref(reference)?.arrayBuffer
  if (!arrayBuffer) return true
  // An ArrayBuffer is also empty after this thread has moved its memory to another one, or posted
  // it to itself.
  return isShared && byteLengthOf(arrayBuffer) === 0
}

module.exports = { LeasedElsewhere }
