'use strict'

/**
 * Counts what one thread uses of one pool: its magazines, and how much is leased or idle. It
 * decides which releases must be checked. `ThreadCache` extends this; its collaborators know only
 * this part of it.
 *
 * - `leased` and `held` MUST change together with the magazines, within the same synchronous step.
 * - Every change of `held`, `peak`, `isWatched` or `othersWait` MUST be followed by `setChecks`:
 *   otherwise a release that matters passes unchecked.
 * - This class MUST NOT call anything but the core.
 *
 * Collaborators: the core (`runtime/native`), `Magazine`.
 */

const native = require('../runtime/native')
const { Floats, closeOff, listOf } = require('../runtime/intrinsics')
const { CACHE_UNITS, Magazine, UNIT, UNUSED } = require('./magazine')
const { blockSizes } = require('./size-class')
const { ENDED_ELSEWHERE_BYTES, PEAK_BYTES, RECENT_PEAK_BYTES } = require('./thread-counters')

const { max } = Math

/**
 * Its fields are not private, which is faster: only a pool's private field leads to a thread cache.
 */
class ThreadUsage {
  /**
   * @param {import('../runtime/native').Attachment} attachment
   * @param {import('../runtime/native').Settings} settings
   */
  constructor(attachment, settings) {
    this.attachment = attachment
    this.name = settings.name
    this.maxBytes = settings.maxBytes
    /** The thread's counters. */
    this.words = new Floats(native.words(attachment))
    /** By size class. */
    this.magazines = listOf(blockSizes.length, (index) => UNUSED[index])
    /** Units leased. Leases that ended elsewhere count until `deductEnded` has run. */
    this.leased = 0
    /**
     * Units leased or idle in this thread. Leases that ended elsewhere count until `deductEnded`
     * has run.
     */
    this.held = 0
    /** The most units leased at a time in this interval, as far as a release has shown. */
    this.peak = 0
    /** The same of the interval before. */
    this.lastPeak = 0
    /** Bytes of leases that ended elsewhere and no longer count in `leased` and `held`. */
    this.deducted = 0
    /** True if each release is checked. */
    this.checksEachRelease = true
    /**
     * A release with fewer units leased than this is checked: the magazines hold more than
     * CACHE_BYTES.
     */
    this.uncheckedFrom = 0
    /** `peak - uncheckedFrom`: a release with more units leased than the peak is checked. */
    this.uncheckedSpan = -1
    /** True if the core knows that this thread has idle blocks, and sends ticks. */
    this.isWatched = false
    /** True if a request of any thread waited for memory at the last look. */
    this.othersWait = false
    /** True if no block stays idle here. */
    this.storesNothing = settings.idleTimeout === 0
    /** True if idle blocks stay without a time limit. */
    this.storesAll = settings.idleTimeout === Infinity
  }

  /** True if any thread has closed the pool. */
  get isClosed() {
    return native.isClosed(this.attachment)
  }

  /** True if every block that this thread holds is leased. */
  get hasNothingIdle() {
    return this.held === this.leased
  }

  /** Units idle here beyond the bound of all magazines together; below 0 within the bound. */
  get excessUnits() {
    return this.held - this.leased - CACHE_UNITS
  }

  /**
   * Returns the magazine of a class, and makes it when the class is first used.
   *
   * @param {number} index
   */
  magazineOf(index) {
    if (this.magazines[index] === UNUSED[index]) {
      this.magazines[index] = new Magazine(index, blockSizes[index])
    }
    return this.magazines[index]
  }

  /**
   * Counts blocks that came to this thread, or left it.
   *
   * @param {number} units leased or idle here; below 0 when they left
   */
  hold(units) {
    this.held += units
    this.setChecks(this.checksEachRelease)
  }

  /**
   * Deducts the leases that ended elsewhere since the last call: by garbage collection, or in
   * another thread.
   */
  deductEnded() {
    const ended = this.words[ENDED_ELSEWHERE_BYTES]
    const units = asInteger((ended - this.deducted) / UNIT)
    this.deducted = ended
    this.leased -= units
    this.hold(-units)
  }

  /**
   * Raises the peak, if this is one.
   *
   * @param {number} leased units, before `deductEnded`
   */
  raisePeak(leased) {
    const before = this.leased
    this.deductEnded()
    const most = leased - (before - this.leased)
    if (most <= this.peak) return
    this.peak = most
    this.writePeaks()
  }

  /** Begins an interval: the peak of the one before the last no longer counts. */
  beginInterval() {
    this.raisePeak(this.leased)
    this.lastPeak = this.peak
    this.peak = this.leased
    this.writePeaks()
  }

  /** Writes the peaks where the core reads them. */
  writePeaks() {
    const { peak, lastPeak, words } = this
    words[RECENT_PEAK_BYTES] = max(peak, lastPeak) * UNIT
    if (peak * UNIT > words[PEAK_BYTES]) words[PEAK_BYTES] = peak * UNIT
    this.setChecks(this.checksEachRelease)
  }

  /** Asks the core for ticks, so that idle blocks do not stay here forever. */
  watch() {
    // The core refuses if it can't start the trimmer's thread; the next release asks again.
    this.isWatched = native.setIdle(this.attachment, true)
    this.checkAsNeeded()
  }

  /** Tells the core to send no more ticks, because nothing is idle here. */
  unwatch() {
    if (!this.isWatched) return
    this.isWatched = false
    native.setIdle(this.attachment, false)
    // No tick will end this interval, and its peak must not count forever.
    this.beginInterval()
    this.checkAsNeeded()
  }

  /** Looks whether a request waits for memory. While a request waits, no block stays idle here. */
  noteWaiters() {
    this.othersWait = !native.nobodyWaits(this.attachment)
    this.checkAsNeeded()
  }

  /** Turns on the check of each release while the core sends no ticks, or a request waits. */
  checkAsNeeded() {
    this.setChecks(!this.isWatched || this.othersWait)
  }

  /**
   * @param {boolean} each whether each release is checked, or only one that leaves too much idle or
   *   shows a peak
   */
  setChecks(each) {
    this.checksEachRelease = each
    this.uncheckedFrom = each ? 0 : this.held - CACHE_UNITS
    // No release is within a range that is less than empty.
    this.uncheckedSpan = each ? -1 : this.peak - this.uncheckedFrom
  }
}

closeOff(ThreadUsage)

/**
 * Returns a whole number as V8's small integer, if it fits: sums of these are faster, and a
 * division makes none.
 *
 * @param {number} number
 */
function asInteger(number) {
  const cut = number | 0
  return cut === number ? cut : number
}

module.exports = { ThreadUsage }
