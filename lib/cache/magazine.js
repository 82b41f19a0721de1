'use strict'

/**
 * One thread's stack of idle blocks of one size class, with their live ArrayBuffers.
 *
 * - A leased slot MUST NOT be linked from anywhere: the garbage collector could never collect it.
 * - A slot MUST have `next === null` as long as it is in no list.
 *
 * The idea and the name are Bonwick's: "Magazines and Vmem" (USENIX 2001).
 */

const { closeOff, listOf } = require('../runtime/intrinsics')
const { blockSizes } = require('./size-class')

/**
 * The most blocks that a magazine has from one event-loop turn to the next: as many as requests may
 * be open at a time. Ticks free the blocks among them that nobody needs.
 */
const MAGAZINE_BLOCKS = 4096

/** The most bytes that a magazine has from one turn to the next. */
const MAGAZINE_BYTES = 32 * 1024 * 1024

/** The most bytes that all magazines of a thread cache have together from one turn to the next. */
const CACHE_BYTES = 64 * 1024 * 1024

/** The most blocks that a fill fetches from the depot. A larger batch would save little. */
const FILL_BLOCKS = 8

/** The most bytes that a fill fetches, so that enough is left for other threads. */
const FILL_BYTES = 256 * 1024

/**
 * The bytes in one unit of account. Every block size is a multiple, and sums stay small integers.
 */
const UNIT = 64

const CACHE_UNITS = CACHE_BYTES / UNIT

const { floor, max, min } = Math

class Magazine {
  /**
   * @param {number} index of the size class
   * @param {number} blockSize in bytes
   */
  constructor(index, blockSize) {
    this.index = index
    this.blockSize = blockSize
    /** The block size in units. */
    this.units = blockSize / UNIT
    /** The most blocks that it has from one turn to the next. */
    this.capacity = max(1, min(MAGAZINE_BLOCKS, floor(MAGAZINE_BYTES / blockSize)))
    /** The number of blocks that a fill fetches. */
    this.batch = max(1, min(FILL_BLOCKS, floor(FILL_BYTES / blockSize)))
    /**
     * The slot that came last, outside of the stack. When leases and releases alternate, as in a
     * server, they touch only this field.
     *
     * @type {import('./slot').Slot | null}
     */
    this.top = null
    /**
     * The other slots: a stack, linked by `next`.
     *
     * @type {import('./slot').Slot | null}
     */
    this.stack = null
    /** The number of slots on the stack. */
    this.depth = 0
    /** The lowest depth since the last `takeUnused`: that many blocks were not needed. */
    this.lowWatermark = 0
    /**
     * The row and the generation of the top at that time. A reference would keep the slot alive.
     */
    this.topRow = -1
    this.topGeneration = -1
  }

  /** The number of slots. */
  get count() {
    return this.top === null ? this.depth : this.depth + 1
  }

  /** Takes the top slot out; returns `undefined` if there is none. */
  take() {
    const { top } = this
    if (top === null) return this.pop()
    this.top = null
    return top
  }

  /**
   * Takes the top of the stack out.
   *
   * @returns {import('./slot').Slot | undefined}
   */
  pop() {
    const slot = this.stack
    if (slot === null) return undefined
    this.stack = slot.next
    slot.next = null
    this.depth--
    if (this.depth < this.lowWatermark) this.lowWatermark = this.depth
    return slot
  }

  /**
   * Puts a slot on the stack.
   *
   * @param {import('./slot').Slot} slot idle
   */
  push(slot) {
    slot.next = this.stack
    this.stack = slot
    this.depth++
  }

  /**
   * Returns how many blocks were not needed since the last call, and starts to count anew. Those
   * are the blocks that lay at the bottom of the stack all the time, and the top if it was never
   * leased meanwhile.
   *
   * Bonwick's working set: the fullest moment of an interval shows how many blocks are needed.
   */
  takeUnused() {
    const { top, lowWatermark, depth } = this
    const isUnused =
      top !== null &&
      lowWatermark === depth &&
      top.row === this.topRow &&
      top.generation === this.topGeneration
    this.lowWatermark = depth - lowWatermark
    this.topRow = top === null ? -1 : top.row
    this.topGeneration = top === null ? -1 : top.generation
    return isUnused ? lowWatermark + 1 : lowWatermark
  }

  /**
   * Cuts slots off, in general from the bottom of the stack, where they have lain longest. With
   * more slots than the bound above them it cuts from the top, because a walk past those slots at
   * each call would take quadratic time.
   *
   * @param {number} count from 1 to as many as there are
   * @returns {import('./slot').Slot | null} a list linked by `next`, the top of them first
   */
  cut(count) {
    if (count > this.depth && this.top !== null) {
      this.push(this.top)
      this.top = null
    }
    const first = this.stack
    const left = this.depth - count
    this.depth = left
    if (left < this.lowWatermark) this.lowWatermark = left
    if (left > this.capacity) {
      this.stack = splitAfter(first, count)
      return first
    }
    if (left > 0) return splitAfter(first, left)
    this.stack = null
    return first
  }
}

closeOff(Magazine)

/**
 * Cuts a list after its first slots, and returns the rest.
 *
 * @param {import('./slot').Slot | null} first
 * @param {number} count from 1 to as many as there are
 */
function splitAfter(first, count) {
  let last = /** @type {import('./slot').Slot} */ (first)
  for (let i = 1; i < count; i++) last = /** @type {import('./slot').Slot} */ (last.next)
  const rest = last.next
  last.next = null
  return rest
}

/**
 * The magazines of classes that a pool has not used: empty, shared by all pools, and never filled.
 * So a pool with few classes in use has few magazines.
 */
const UNUSED = listOf(blockSizes.length, (index) => new Magazine(index, blockSizes[index]))

module.exports = { Magazine, CACHE_BYTES, CACHE_UNITS, UNIT, UNUSED }
