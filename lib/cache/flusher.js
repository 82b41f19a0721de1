'use strict'

/**
 * Moves idle blocks out of this thread, and idle blocks of the depot back to the operating system:
 *
 *   magazine ── cut ──▶ list of cuts ── flushCuts: detach ──▶ depot, or freed
 *                                                depot ── freeInDepot ──▶ freed
 *
 * - A slot MUST be in a magazine, or on the list, or leased, and never in two of these.
 * - One event-loop turn MUST NOT take more than SLICE blocks, unless the caller can't go on without
 *   more. The rest follows in the next turns.
 * - It decides nothing: its callers say how much goes, and whether that is stored or freed.
 *
 * Collaborators: `ThreadUsage`, the core (`runtime/native`), `FreedBytes`. `onSlice` is called in
 * each of the next turns.
 */

const { CACHE_BYTES, UNIT, UNUSED } = require('./magazine')
const native = require('../runtime/native')
const { closeOff } = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')
const { detachSlot } = require('./detach-slot')
const { Fate } = require('./states')

const { ceil, min } = Math

/** The most blocks that leave in one event-loop turn: a few milliseconds' worth. */
const SLICE = 4096

/**
 * Slots that were cut off a magazine's stack. Nobody can lease them any more.
 *
 * @typedef {object} Cut
 * @property {import('./slot').Slot | null} slots linked by `next`
 * @property {number} fate a `Fate`
 * @property {import('./freed-bytes').Reason | undefined} reason published when they are freed
 * @property {Cut | null} next
 */

class Flusher {
  /**
   * @param {import('./thread-usage').ThreadUsage} usage
   * @param {import('./freed-bytes').FreedBytes} freed
   * @param {() => void} onSlice
   */
  constructor(usage, freed, onSlice) {
    this.usage = usage
    this.freed = freed
    this.onSlice = onSlice
    /** @type {Cut | null} */
    this.firstCut = null
    /** @type {Cut | null} */
    this.lastCut = null
    /** Bytes of the slots on the list. */
    this.cutBytes = 0
    /** Bytes of the depot that are still to be freed. */
    this.depotBytes = 0
    this.isScheduled = false
  }

  /**
   * Flushes idle blocks, the largest first, until `bytes` have left or nothing is idle.
   *
   * @param {number} bytes
   * @param {number} fate a `Fate`
   * @param {import('./freed-bytes').Reason} [reason] published for blocks that are freed in a later
   *   turn
   * @param {number} [most] blocks in this turn
   * @returns {number} the bytes that have left in this turn
   */
  flush(bytes, fate, reason, most = SLICE) {
    if (fate === Fate.FREE) this.freeAllCuts(reason)
    // The slots on the list leave first.
    const before = this.flushCuts(bytes, most)
    let wanted = bytes - before
    const { magazines } = this.usage
    for (let i = magazines.length - 1; i >= 0 && wanted > 0; i--) {
      const magazine = magazines[i]
      const count = min(ceil(wanted / magazine.blockSize), magazine.count)
      this.cut(magazine, count, fate, reason)
      wanted -= count * magazine.blockSize
    }
    return before + this.flushCuts(bytes - before, most)
  }

  /** Frees everything that is idle in this thread. */
  freeAll() {
    this.flush(Infinity, Fate.FREE)
  }

  /**
   * Flushes each magazine that is above its bound, then all of them if they are above theirs, to
   * half of the bound.
   */
  flushExcess() {
    const { usage } = this
    usage.deductEnded()
    const { magazines } = usage
    for (let i = 0; i < magazines.length; i++) {
      const magazine = magazines[i]
      if (magazine.count > magazine.capacity) {
        this.cut(magazine, magazine.count - (magazine.capacity >> 1), Fate.STORE)
      }
    }
    this.flushCuts(Infinity)
    if (this.firstCut !== null) return
    const { excessUnits } = usage
    if (excessUnits > 0) this.flush(excessUnits * UNIT + CACHE_BYTES / 2, Fate.STORE)
  }

  /**
   * Frees the blocks that each magazine has not needed since the last call.
   *
   * @param {import('./freed-bytes').Reason} reason
   */
  freeUnused(reason) {
    const { magazines } = this.usage
    for (let i = 0; i < magazines.length; i++) {
      const magazine = magazines[i]
      if (magazine !== UNUSED[i]) this.cut(magazine, magazine.takeUnused(), Fate.FREE, reason)
    }
  }

  /**
   * Frees idle blocks that are needed least. First come those of the class with the most bytes that
   * were not needed in this interval, then those of the class with the most idle bytes.
   *
   * @param {number} bytes
   * @param {import('./magazine').Magazine} needed a magazine whose blocks stay
   */
  freeLeastNeeded(bytes, needed) {
    for (let wanted = bytes; wanted > 0; ) {
      const magazine = leastNeededOf(this.usage.magazines, needed)
      if (magazine === undefined) break
      const { blockSize, lowWatermark, count } = magazine
      const most = lowWatermark > 0 ? lowWatermark : 1
      const number = min(ceil(wanted / blockSize), most, count)
      this.cut(magazine, number, Fate.FREE, 'idle')
      // Blocks that were needed still count as needed.
      const unneeded = lowWatermark > number ? lowWatermark - number : 0
      magazine.lowWatermark = min(magazine.lowWatermark, unneeded)
      wanted -= number * blockSize
    }
    this.flushCuts(bytes)
  }

  /**
   * Frees idle blocks of the depot: a slice of them now, the others in the next turns.
   *
   * @param {number} bytes
   * @returns {number} the bytes freed now
   */
  freeInDepot(bytes) {
    const { attachment } = this.usage
    const freed = native.trim(attachment, bytes, SLICE)
    this.freed.call += freed
    this.depotBytes = min(bytes - freed, native.depotBytes(attachment))
    if (this.depotBytes > 0) this.schedule()
    return freed
  }

  /**
   * Moves slots from a magazine to the list.
   *
   * @param {import('./magazine').Magazine} magazine
   * @param {number} count at most what the magazine holds
   * @param {number} fate a `Fate`
   * @param {import('./freed-bytes').Reason} [reason]
   */
  cut(magazine, count, fate, reason) {
    if (count === 0) return
    this.cutBytes += count * magazine.blockSize
    /** @type {Cut} */
    const cut = { slots: magazine.cut(count), fate, reason, next: null }
    if (this.lastCut === null) this.firstCut = cut
    else this.lastCut.next = cut
    this.lastCut = cut
  }

  /**
   * Makes the core free the blocks of all slots on the list, and store none.
   *
   * @param {import('./freed-bytes').Reason} [reason]
   */
  freeAllCuts(reason) {
    for (let cut = this.firstCut; cut !== null; cut = cut.next) {
      cut.fate = Fate.FREE
      cut.reason ??= reason
    }
  }

  /**
   * Detaches slots on the list until `bytes` have left, or `most` blocks. The others follow in the
   * next turns.
   *
   * @param {number} bytes
   * @param {number} [most]
   * @returns {number} the bytes that have left
   */
  flushCuts(bytes, most = SLICE) {
    let flushed = 0
    for (let left = most; left > 0 && flushed < bytes && this.firstCut !== null; left--) {
      const cut = this.firstCut
      const slot = cut.slots
      if (slot === null) {
        this.firstCut = cut.next
        if (cut.next === null) this.lastCut = null
        continue
      }
      cut.slots = slot.next
      slot.next = null
      const bytesOfSlot = this.flushSlot(slot, cut.fate)
      flushed += bytesOfSlot
      if (cut.reason !== undefined) this.freed[cut.reason] += bytesOfSlot
    }
    if (this.firstCut !== null || !this.freed.isEmpty) this.schedule()
    if (this.firstCut === null && this.usage.hasNothingIdle) this.usage.unwatch()
    return flushed
  }

  /**
   * Detaches a slot on the list.
   *
   * @param {import('./slot').Slot} slot
   * @param {number} fate a `Fate`
   * @returns {number} its bytes; 0 if it can't be detached: then its block follows when the garbage
   *   collector finds it
   */
  flushSlot(slot, fate) {
    const { usage } = this
    const magazine = /** @type {import('./magazine').Magazine} */ (slot.magazine)
    const { blockSize, units } = magazine
    this.cutBytes -= blockSize
    const isDetached = detachSlot(usage.attachment, slot, magazine, fate)
    slot.forget()
    usage.hold(-units)
    return isDetached ? blockSize : 0
  }

  /**
   * Schedules the next slice for the next event-loop turn, which also publishes the bytes freed.
   */
  schedule() {
    if (this.isScheduled) return
    setImmediate(() => {
      this.isScheduled = false
      if (this.firstCut !== null) this.flushCuts(Infinity)
      if (this.depotBytes > 0) this.freeInDepot(this.depotBytes)
      this.onSlice()
      if (this.firstCut === null) native.shrink(this.usage.attachment)
      this.freed.publish()
    }).unref()
    this.isScheduled = true
  }
}

closeOff(Flusher)

/**
 * Finds the magazine whose idle blocks are needed least.
 *
 * @param {import('./magazine').Magazine[]} magazines
 * @param {import('./magazine').Magazine} needed not this one
 */
function leastNeededOf(magazines, needed) {
  let found
  let unused = 0
  let idle = 0
  for (let i = 0; i < magazines.length; i++) {
    const magazine = magazines[i]
    const { blockSize, count, lowWatermark } = magazine
    if (count === 0 || magazine === needed) continue
    if (lowWatermark * blockSize < unused) continue
    if (lowWatermark * blockSize > unused || count * blockSize > idle) {
      found = magazine
      unused = lowWatermark * blockSize
      idle = count * blockSize
    }
  }
  return found
}

module.exports = { Flusher, SLICE }
