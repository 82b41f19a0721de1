'use strict'

/**
 * The idle blocks of one size class in one thread: a stack of live ArrayBuffers.
 *
 * The idea, and the name, are Bonwick's: "Magazines and Vmem" (USENIX 2001).
 */

const { closeOff, listOf } = require('../runtime/intrinsics')
const { blockSizes } = require('./size-class')

/**
 * The most blocks that one magazine keeps from one turn of the event loop to the next: as many as requests may be
 * open at a time. What is not needed of them decays.
 */
const MAGAZINE_BLOCKS = 4096

/** The most bytes that one magazine keeps from one turn to the next. */
const MAGAZINE_BYTES = 32 * 1024 * 1024

/** The most bytes that all magazines of a thread cache together keep from one turn to the next. */
const CACHE_BYTES = 64 * 1024 * 1024

/** The most blocks that are fetched from the depot at a time: beyond, only the call is saved. */
const FILL_BLOCKS = 8

/** The most bytes that are fetched at a time: another thread may need them more. */
const FILL_BYTES = 256 * 1024

/** Bytes in one unit of account: every block size is a multiple. Keeps sums small integers. */
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
    /** The most blocks that it keeps from one turn to the next. */
    this.capacity = max(1, min(MAGAZINE_BLOCKS, floor(MAGAZINE_BYTES / blockSize)))
    /** How many blocks are fetched at a time. */
    this.batch = max(1, min(FILL_BLOCKS, floor(FILL_BYTES / blockSize)))
    /**
     * The slot that came last, outside of the stack: a lease and a release in turn, as a server
     * makes them, touch nothing else.
     *
     * @type {import('./slot').Slot | null}
     */
    this.top = null
    /**
     * The others: a stack, linked by `next`. A slot that is leased must not be linked to from
     * anywhere, or the garbage collector could never find it dropped.
     *
     * @type {import('./slot').Slot | null}
     */
    this.stack = null
    /** How many there are on the stack. */
    this.depth = 0
    /** The lowWatermark there were on the stack since the last `takeUnused`: as many were not needed. */
    this.lowWatermark = 0
    /** The top then, as its row and its leases: nothing that would keep it alive. */
    this.topRow = -1
    this.topGeneration = -1
  }

  /** How many slots there are. */
  get count() {
    return this.top === null ? this.depth : this.depth + 1
  }

  /** Takes the top slot out; `undefined` where there is none. */
  take() {
    const { top } = this
    if (top === null) return this.pop()
    this.top = null
    return top
  }

  /** @returns {import('./slot').Slot | undefined} */
  pop() {
    const slot = this.stack
    if (slot === null) return undefined
    this.stack = slot.next
    slot.next = null
    this.depth--
    if (this.depth < this.lowWatermark) this.lowWatermark = this.depth
    return slot
  }

  /** @param {import('./slot').Slot} slot idle, for the top of the stack */
  push(slot) {
    slot.next = this.stack
    this.stack = slot
    this.depth++
  }

  /**
   * How many blocks were not needed since this was asked last, for their removal: those that lay at
   * the bottom of the stack all the time, and the top if it was never leased meanwhile.
   *
   * Bonwick's working set: what the fullest moment of the last interval left unused is surplus.
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
   * Cuts slots off, the top of them first in a list linked by `next`: the coldest, unless more lie above them
   * than are kept from one turn to the next. To go past those each time would take time that grows with the square
   * of what is idle.
   *
   * @param {number} count from 1 to as many as there are
   * @returns {import('./slot').Slot | null}
   */
  cut(count) {
    if (count > this.depth && this.top !== null) {
      this.push(this.top)
      this.top = null
    }
    const first = this.stack
    const kept = this.depth - count
    this.depth = kept
    if (kept < this.lowWatermark) this.lowWatermark = kept
    if (kept > this.capacity) {
      this.stack = splitAfter(first, count)
      return first
    }
    if (kept > 0) return splitAfter(first, kept)
    this.stack = null
    return first
  }
}

closeOff(Magazine)

/**
 * Cuts a list after its first slots. Returns the rest.
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
 * Those of classes that nobody has used: empty, the same for all pools, and never to be put into. A pool with
 * a few classes in use has a few magazines.
 */
const UNUSED = listOf(blockSizes.length, (index) => new Magazine(index, blockSizes[index]))

module.exports = { Magazine, CACHE_BYTES, CACHE_UNITS, UNIT, UNUSED }
