'use strict'

/**
 * Decides which idle blocks leave a thread, and when:
 *
 * - blocks beyond the bounds: at the end of the event-loop turn;
 * - blocks that nobody needed: when the core sends a tick;
 * - blocks that a request waits for, in whichever thread: at once.
 *
 * `Flusher` moves them. The process has a trimmer too, which sends the ticks:
 * `src/pool/trimmer.rs`.
 *
 * Collaborators: `ThreadUsage`, `Segments`, `Flusher`, `FreedBytes`, `Waiting`, the core
 * (`runtime/native`).
 */

const native = require('../runtime/native')
const { closeOff, forEachIn } = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')
const { CACHE_UNITS } = require('./magazine')
const { readStats } = require('../pool/stats')
const { Fate, Tick } = require('./states')

class Trimmer {
  /**
   * @param {import('./thread-usage').ThreadUsage} usage
   * @param {import('./segments').Segments} segments
   * @param {import('./flusher').Flusher} flusher
   * @param {import('./freed-bytes').FreedBytes} freed
   * @param {import('./waiting').Waiting} waiting
   */
  constructor(usage, segments, flusher, freed, waiting) {
    this.usage = usage
    this.segments = segments
    this.flusher = flusher
    this.freed = freed
    this.waiting = waiting
    this.isFlushDue = false
    /**
     * Functions that give up leased memory which its holder can do without.
     *
     * @type {Set<() => void>}
     */
    this.revocable = new Set()
  }

  /**
   * Reacts to a release that `ThreadUsage` wants checked.
   *
   * @param {number} leased units, before the release
   */
  afterRelease(leased) {
    const { usage } = this
    if (usage.isClosed) {
      this.flusher.freeAll()
    } else if (usage.othersWait) {
      this.giveUpForOthers()
    } else {
      if (!usage.isWatched) this.watch()
      if (leased < usage.held - CACHE_UNITS) this.scheduleFlush()
    }
  }

  /**
   * Asks the core for ticks, or flushes the blocks at the end of this turn if none may stay idle.
   */
  watch() {
    // Each release is still checked then.
    if (this.usage.storesNothing) this.scheduleFlush()
    else this.usage.watch()
  }

  /**
   * Flushes the blocks beyond the bounds at the end of this event-loop turn, and not now. Otherwise
   * a loop that leases and releases more than the bound would fetch them again in each round. Where
   * only finalizers return blocks, it would get new memory, because finalizers don't run within a
   * turn.
   */
  scheduleFlush() {
    if (this.isFlushDue) return
    setImmediate(() => {
      this.isFlushDue = false
      if (this.usage.storesNothing) this.flusher.freeAll()
      else this.flusher.flushExcess()
      this.freed.publish()
    }).unref()
    this.isFlushDue = true
  }

  /**
   * Ends an interval. When nothing is idle any more, the core sends no more ticks.
   *
   * @param {number} tick a `Tick`
   */
  onTick(tick) {
    if (tick === Tick.NONE) return
    if (tick !== Tick.LOOK) {
      this.usage.beginInterval()
      this.flusher.freeUnused(tick === Tick.FREE_UNDER_PRESSURE ? 'pressure' : 'idle')
    }
    this.flusher.flushCuts(Infinity)
  }

  /** Gives up everything idle for the requests that wait, in whichever thread. */
  giveUpForOthers() {
    this.giveUp(Infinity)
    this.usage.noteWaiters()
    this.waiting.collect()
  }

  /**
   * Gives up idle blocks for others to use, and leased memory that its holder can do without.
   *
   * @param {number} bytes
   */
  giveUp(bytes) {
    forEachIn(this.revocable, callIt)
    this.flusher.flush(bytes, Fate.STORE)
  }

  /**
   * Frees idle blocks, those in the depot first, until at most `keepBytes` are left: some now, the
   * rest in the next turns. Asks other threads to free theirs if that is not enough.
   *
   * @param {number} keepBytes
   * @returns {number} the bytes freed now
   */
  trim(keepBytes) {
    const { usage, flusher } = this
    usage.raisePeak(usage.leased)
    const excess = readStats(usage).idleBytes - keepBytes
    if (excess <= 0) {
      native.shrink(usage.attachment)
      return 0
    }
    let freed = flusher.freeInDepot(excess)
    const rest = excess - freed - flusher.depotBytes
    if (rest > 0) freed += flusher.flush(rest, Fate.FREE, 'call')
    const others = excess - freed - flusher.depotBytes - flusher.cutBytes
    if (others > 0) native.trimOthers(usage.attachment, others)
    this.segments.forgetGone()
    this.freed.publish()
    return freed
  }
}

closeOff(Trimmer)

const callIt = (/** @type {() => void} */ giveUp) => giveUp()

module.exports = { Trimmer }
