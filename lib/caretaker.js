'use strict'

/**
 * Looks after what is idle in a thread's magazines: what of it goes back, when, and for whom.
 *
 * - Beyond the bounds it goes at the end of the turn.
 * - What nobody needs goes when the core's clock, or its gauge of memory, says so.
 * - For those who wait, in whichever thread, it goes at once.
 *
 * The core tells by a bell that there is something to look at.
 */

const { setImmediate } = require('node:timers')
const channels = require('./channels')
const { RACK_BYTES, RACK_UNITS, UNIT } = require('./magazine')
const native = require('./native')
const { WeakReference, deref, forEachIn } = require('./runtime')

const { ceil, min } = Math

class Caretaker {
  /**
   * @param {import('./rack').Rack} rack
   */
  constructor(rack) {
    this.rack = rack
    this.spillIsDue = false
    /** Whether the core knows that something is idle here, and will see to it in time. */
    this.isWatched = false
    /** Whether someone, in whichever thread, waited for memory when this was looked at last. */
    this.othersWait = false
    this.hasBell = false
    /**
     * What gives up memory that is leased and can be done without.
     *
     * @type {Set<() => void>}
     */
    this.spares = new Set()
  }

  /**
   * A block was released while the rack is on the alert, or holds too much.
   *
   * @param {number} leased units, before the release
   */
  attend(leased) {
    if (this.rack.isClosed) {
      this.empty()
    } else if (this.othersWait) {
      this.giveUpForOthers()
    } else {
      if (!this.isWatched) this.beWatched()
      if (leased < this.rack.floor) this.scheduleSpill()
    }
  }

  /**
   * The magazines hold more than they may keep. What is too much goes at the end of this turn
   * and not now: a loop that leases and releases more than the bound would have to fetch it again
   * each time round, and where only finalizers bring blocks back, which don't run within a turn, it
   * would get new memory.
   */
  scheduleSpill() {
    if (this.spillIsDue) return
    setImmediate(() => {
      this.spillIsDue = false
      if (this.rack.keepsNothing) this.empty()
      else this.spill()
    }).unref()
    this.spillIsDue = true
  }

  /** Has the core see to it that what is idle here does not stay for ever. */
  beWatched() {
    if (this.rack.keepsNothing) {
      // The floor stays where it is: each release is attended to.
      this.scheduleSpill()
      return
    }
    // Where no thread could be had for it, the next release asks again.
    this.isWatched = native.setIdle(this.rack.attachment, true)
    this.beAlert()
  }

  /** Has the core call `answer` when there is something to look at. */
  listen() {
    if (this.hasBell) return
    native.listen(this.rack.attachment, answerFor(new WeakReference(this)))
    // Only now: where Node-API refuses, the next call tries again.
    this.hasBell = true
  }

  /** Looks at what the core has for this thread. */
  answer() {
    const { attachment } = this.rack
    this.rack.fold()
    if (this.rack.isClosed) this.empty()
    if (native.takeSqueezed(attachment)) {
      this.publishTrim(this.recallBytes(Infinity, true), 'pressure')
    }
    const trimmed = native.takeTrimmed(attachment)
    if (trimmed > 0) this.publishTrim(this.recallBytes(trimmed, true), 'call')
    const tick = native.takeTick(attachment)
    if (tick > 0) this.tick(tick > 1, tick > 2 ? 'pressure' : 'idle')
    const asked = native.takeAsked(attachment)
    if (asked > 0) {
      this.giveUpSpares()
      this.recallBytes(asked, false)
    }
    this.noteOthers()
    this.rack.waiting.collect()
    this.publishTrim(native.takeFreedAsIdle(attachment), 'idle')
    this.publishTrim(native.takeFreedUnderPressure(attachment), 'pressure')
    this.tellLeaks()
  }

  tellLeaks() {
    const { attachment } = this.rack
    for (;;) {
      const report = native.nextReport(attachment)
      if (report === null) return
      if (report < 0) this.rack.sampler.forget(-report)
      else this.rack.sampler.tell(report, () => native.isFirstLeak(attachment))
    }
  }

  /**
   * The end of an interval. With nothing idle left, ticks end.
   *
   * @param {boolean} frees whether what was not needed since the last tick is freed
   * @param {'idle' | 'pressure'} reason
   */
  tick(frees, reason) {
    let bytes = 0
    const { magazines } = this.rack
    for (let i = 0; i < magazines.length && frees; i++) {
      bytes += this.rack.recall(magazines[i], magazines[i].takeUnused(), true)
    }
    this.publishTrim(bytes, reason)
    if (this.rack.held === this.rack.leased) this.stopBeingWatched()
  }

  stopBeingWatched() {
    if (!this.isWatched) return
    this.isWatched = false
    native.setIdle(this.rack.attachment, false)
    this.beAlert()
  }

  /** Notes whether someone waits for memory: as long as someone does, nothing is kept idle here. */
  noteOthers() {
    this.othersWait = !native.nobodyWaits(this.rack.attachment)
    this.beAlert()
  }

  /** Gives up what is idle for those who wait, in whichever thread. */
  giveUpForOthers() {
    this.giveUpSpares()
    this.recallBytes(Infinity, false)
    this.noteOthers()
    this.rack.waiting.collect()
  }

  giveUpSpares() {
    forEachIn(this.spares, callIt)
  }

  /** Brings every magazine, and all together, back under their bounds, by half. */
  spill() {
    this.rack.fold()
    const { magazines } = this.rack
    for (let i = 0; i < magazines.length; i++) {
      const magazine = magazines[i]
      if (magazine.count > magazine.capacity) {
        this.rack.recall(magazine, magazine.count - (magazine.capacity >> 1), false)
      }
    }
    const excess = this.rack.held - this.rack.leased - RACK_UNITS
    if (excess > 0) this.recallBytes(excess * UNIT + RACK_BYTES / 2, false)
  }

  /**
   * Recalls blocks, the largest first, until `bytes` of them are or none is left.
   *
   * @param {number} bytes
   * @param {boolean} condemn
   */
  recallBytes(bytes, condemn) {
    let recalled = 0
    const { magazines } = this.rack
    for (let i = magazines.length - 1; i >= 0 && recalled < bytes; i--) {
      const magazine = magazines[i]
      const wanted = ceil((bytes - recalled) / magazine.blockSize)
      recalled += this.rack.recall(magazine, min(wanted, magazine.count), condemn)
    }
    if (this.rack.held === this.rack.leased) this.stopBeingWatched()
    return recalled
  }

  /**
   * Frees idle blocks, those in the depot first, until at most `keepBytes` are left. Returns the bytes
   * given up. Other threads are told to give up theirs.
   *
   * @param {number} keepBytes
   */
  trim(keepBytes) {
    this.rack.fold()
    const excess = this.rack.stats().idleBytes - keepBytes
    if (excess <= 0) return 0
    let freed = native.trim(this.rack.attachment, excess)
    freed += this.recallBytes(excess - freed, true)
    if (freed < excess) native.trimOthers(this.rack.attachment, excess - freed)
    this.publishTrim(freed, 'call')
    return freed
  }

  /** Gives up everything idle in this thread. */
  empty() {
    this.recallBytes(Infinity, true)
  }

  /**
   * @param {number} bytes
   * @param {'idle' | 'pressure' | 'call'} reason
   */
  publishTrim(bytes, reason) {
    if (bytes > 0 && channels.trim.hasSubscribers) {
      channels.trim.publish({ pool: this.rack.name, bytes, reason })
    }
  }

  /** Is on the alert, or not, as things stand. */
  beAlert() {
    this.rack.beAlert(this.isWatched && !this.othersWait)
  }
}

const callIt = (/** @type {() => void} */ giveUp) => giveUp()

/**
 * A bell's answer. It holds the rack no longer than the pool's users do.
 *
 * @param {WeakRef<Caretaker>} caretaker
 */
function answerFor(caretaker) {
  return () => deref(caretaker)?.answer()
}

module.exports = { Caretaker }
