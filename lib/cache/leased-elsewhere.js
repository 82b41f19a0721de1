'use strict'

/**
 * How much of what a thread has leased is no longer in its hands: posted to another thread, or collected and on its
 * way back.
 *
 * No counter tells, since nobody asks the pool before a Buffer is posted, perhaps before the pool has a handle. So each
 * slot is known here by a weak reference. A posted Buffer leaves the slot's ArrayBuffer empty.
 */

const { LEASED, SAMPLED, STATE } = require('./thread-counters')
const native = require('../runtime/native')
const { WeakReference, byteLengthOf, closeOff, deref, lengthOf } = require('../runtime/intrinsics')

const { headColumns, segmentShift, columnsPerRow } = native.layout()
const { max } = Math

const ROW_MASK = 2 ** segmentShift - 1

/** The most rows that are looked at in one turn of the event loop: less than a millisecond's worth. */
const SLICE = 4096

class LeasedElsewhere {
  #cache
  /** How many segments have slots that are known here, or had. */
  #segments = 0
  /** Where the count goes on: the number of a segment, and of a row in it. */
  #segment = 0
  #row = 0
  /** Bytes counted so far. */
  #bytes = 0

  /** @param {import('./thread-cache').ThreadCache} cache */
  constructor(cache) {
    this.#cache = cache
  }

  /**
   * Knows a slot from now on, for as long as its block has the row.
   *
   * @param {import('./slot').Slot} slot in a magazine
   */
  know(slot) {
    const number = slot.row >>> segmentShift
    const segment = this.#cache.segments[number]
    this.#segments = max(this.#segments, number + 1)
    segment.slots[slot.row & ROW_MASK] = new WeakReference(slot)
    segment.blockSize = /** @type {import('./magazine').Magazine} */ (slot.magazine).blockSize
  }

  /**
   * Whether at least so many bytes are elsewhere; `undefined` where it has to be asked again, in another turn.
   *
   * @param {number} bytes above 0
   * @param {boolean} isShared whether another thread may give back what was posted
   */
  isAtLeast(bytes, isShared) {
    const { segments } = this.#cache
    let left = SLICE
    for (; this.#segment < this.#segments; this.#segment++, this.#row = 0) {
      const segment = segments[this.#segment]
      if (segment === undefined || segment.blockSize === 0) continue
      const { words, slots, blockSize } = segment
      const end = lengthOf(words)
      for (;;) {
        const at = headColumns + this.#row * columnsPerRow
        if (at >= end) break
        const slot = slots[this.#row++]
        const isOut = slot !== undefined && isElsewhere(slot, words[at + STATE], isShared)
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
 * Whether a block is leased, and not in this thread's hands.
 *
 * @param {WeakRef<import('./slot').Slot>} reference to its slot
 * @param {number} state its own
 * @param {boolean} isShared
 */
function isElsewhere(reference, state, isShared) {
  if (state !== LEASED && state !== SAMPLED) return false
  const arrayBuffer = deref(reference)?.arrayBuffer
  if (!arrayBuffer) return true
  // Empty is also what this thread has moved to another ArrayBuffer, or posted to itself.
  return isShared && byteLengthOf(arrayBuffer) === 0
}

module.exports = { LeasedElsewhere }
