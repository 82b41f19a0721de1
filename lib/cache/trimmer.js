'use strict'

/**
 * Looks after what is idle in a thread's magazines: what of it goes back, when, and for whom.
 *
 * - Beyond the bounds it goes at the end of the turn.
 * - What nobody needs goes when the core's clock, or its gauge of memory, says so.
 * - For those who wait, in whichever thread, it goes at once.
 *
 * The core tells by a waker that there is something to look at.
 */

const channels = require('../pool/channels')
const { CACHE_BYTES, CACHE_UNITS, UNIT, UNUSED } = require('./magazine')
const native = require('../runtime/native')
const { WeakReference, closeOff, deref, forEachIn } = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')

const { ceil, min } = Math

/**
 * The most blocks that are let go of in one turn of the event loop: a few milliseconds' worth. Others follow
 * in the next.
 */
const SLICE = 4096

/**
 * Slots that were cut off a magazine's stack, to be let go of.
 *
 * @typedef {object} Cut
 * @property {import('./slot').Slot | null} slots linked by `next`
 * @property {boolean} frees to be freed, not kept
 * @property {'idle' | 'pressure' | 'call' | undefined} reason to be published when they are freed
 * @property {Cut | null} next
 */

class Trimmer {
  /**
   * @param {import('./thread-cache').ThreadCache} cache
   */
  constructor(cache) {
    this.cache = cache
    this.flushIsDue = false
    /** Whether the core knows that something is idle here, and will see to it in time. */
    this.isWatched = false
    /** Whether someone, in whichever thread, waited for memory when this was looked at last. */
    this.othersWait = false
    this.hasWaker = false
    /**
     * What gives up memory that is leased and can be done without.
     *
     * @type {Set<() => void>}
     */
    this.revocable = new Set()
    /** @type {Cut | null} */
    this.firstCut = null
    /** @type {Cut | null} */
    this.lastCut = null
    /** Bytes of the slots that were cut off. */
    this.cutBytes = 0
    /** Bytes of the depot that `trim` was called for and that are not freed yet. */
    this.untrimmed = 0
    this.isGoingOn = false
    /** Bytes that were freed and not published yet, by reason. */
    this.unpublished = { idle: 0, pressure: 0, call: 0 }
  }

  /**
   * A block was released while the thread cache is on the alert, or holds too much.
   *
   * @param {number} leased units, before the release
   */
  attend(leased) {
    if (this.cache.isClosed) {
      this.empty()
    } else if (this.othersWait) {
      this.giveUpForOthers()
    } else {
      if (!this.isWatched) this.beWatched()
      if (leased < this.cache.held - CACHE_UNITS) this.scheduleFlush()
    }
  }

  /**
   * The magazines hold more than they may keep. What is too much goes at the end of this turn
   * and not now: a loop that leases and releases more than the bound would have to fetch it again
   * each time round, and where only finalizers bring blocks back, which don't run within a turn, it
   * would get new memory.
   */
  scheduleFlush() {
    if (this.flushIsDue) return
    setImmediate(() => {
      this.flushIsDue = false
      if (this.cache.cachesNothing) this.empty()
      else this.flush()
      this.publishFreed()
    }).unref()
    this.flushIsDue = true
  }

  /** Has the core see to it that what is idle here does not stay for ever. */
  beWatched() {
    if (this.cache.cachesNothing) {
      // The floor stays where it is: each release is attended to.
      this.scheduleFlush()
      return
    }
    // Where no thread could be had for it, the next release asks again.
    this.isWatched = native.setIdle(this.cache.attachment, true)
    this.beAlert()
  }

  /** Has the core call `onWake` when there is something to look at. */
  listen() {
    if (this.hasWaker) return
    native.listen(this.cache.attachment, onWakeFor(new WeakReference(this)))
    // Only now: where Node-API refuses, the next call tries again.
    this.hasWaker = true
  }

  /** Looks at what the core has for this thread. */
  onWake() {
    const { attachment } = this.cache
    this.cache.fold()
    if (this.cache.isClosed) this.empty()
    if (native.takeFreeAll(attachment)) this.flushBytes(Infinity, true, SLICE, 'pressure')
    const trimmed = native.takeTrimmed(attachment)
    if (trimmed > 0) this.flushBytes(trimmed, true, SLICE, 'call')
    const tick = native.takeTick(attachment)
    if (tick > 0) this.tick(tick > 1, tick > 2 ? 'pressure' : 'idle')
    const asked = native.takeAsked(attachment)
    if (asked > 0) {
      this.revokeAll()
      this.flushBytes(asked, false, SLICE)
    }
    this.noteOthers()
    this.cache.waiting.collect()
    this.unpublished.idle += native.takeFreedAsIdle(attachment)
    this.unpublished.pressure += native.takeFreedUnderPressure(attachment)
    this.cache.forgetSegments()
    this.publishFreed()
    this.tellLeaks()
  }

  tellLeaks() {
    const { attachment } = this.cache
    this.noteEnds()
    this.cache.sampler.tellLeaks((site) => native.noteLeakSite(attachment, site))
  }

  /** Takes note of sampled leases that have ended in the garbage collector, or in another thread. */
  noteEnds() {
    const { attachment, sampler } = this.cache
    for (;;) {
      const report = native.nextReport(attachment)
      if (report === null) return
      if (report < 0) sampler.forget(-report)
      else sampler.leak(report)
    }
  }

  /**
   * The end of an interval. With nothing idle left, ticks end.
   *
   * @param {boolean} frees whether what was not needed since the last tick is freed
   * @param {'idle' | 'pressure'} reason
   */
  tick(frees, reason) {
    const { magazines } = this.cache
    if (frees) this.cache.beginInterval()
    for (let i = 0; i < magazines.length && frees; i++) {
      if (magazines[i] !== UNUSED[i])
        this.cut(magazines[i], magazines[i].takeUnused(), true, reason)
    }
    this.letGo(Infinity, SLICE)
    if (this.cache.held === this.cache.leased) this.stopBeingWatched()
  }

  stopBeingWatched() {
    if (!this.isWatched) return
    this.isWatched = false
    native.setIdle(this.cache.attachment, false)
    // No more ticks come: what was leased before must not count for ever.
    this.cache.beginInterval()
    this.beAlert()
  }

  /** Notes whether someone waits for memory: as long as someone does, nothing is kept idle here. */
  noteOthers() {
    this.othersWait = !native.nobodyWaits(this.cache.attachment)
    this.beAlert()
  }

  /** Gives up what is idle for those who wait, in whichever thread. */
  giveUpForOthers() {
    this.revokeAll()
    this.flushBytes(Infinity, false, SLICE)
    this.noteOthers()
    this.cache.waiting.collect()
  }

  revokeAll() {
    forEachIn(this.revocable, callIt)
  }

  /** Brings every magazine, and all together, back under their bounds, by half. */
  flush() {
    this.cache.fold()
    const { magazines } = this.cache
    for (let i = 0; i < magazines.length; i++) {
      const magazine = magazines[i]
      if (magazine.count > magazine.capacity) {
        this.cut(magazine, magazine.count - (magazine.capacity >> 1), false)
      }
    }
    this.letGo(Infinity, SLICE)
    if (this.firstCut !== null) return
    const excess = this.cache.held - this.cache.leased - CACHE_UNITS
    if (excess > 0) this.flushBytes(excess * UNIT + CACHE_BYTES / 2, false, SLICE)
  }

  /**
   * Lets go of idle blocks, the largest first, until `bytes` of them are or none is left; of so many in this turn
   * of the event loop, the others follow. Returns the bytes of which it has.
   *
   * @param {number} bytes
   * @param {boolean} frees to be freed, not kept
   * @param {number} most blocks in this turn
   * @param {Cut['reason']} [reason] of those that are freed later
   */
  flushBytes(bytes, frees, most, reason) {
    if (frees) this.freeAllCuts(reason)
    // Those that were cut off already come first.
    const before = this.letGo(bytes, most)
    let wanted = bytes - before
    const { magazines } = this.cache
    for (let i = magazines.length - 1; i >= 0 && wanted > 0; i--) {
      const magazine = magazines[i]
      const count = min(ceil(wanted / magazine.blockSize), magazine.count)
      this.cut(magazine, count, frees, reason)
      wanted -= count * magazine.blockSize
    }
    return before + this.letGo(bytes - before, most)
  }

  /**
   * Frees idle blocks because more is idle than is in proportion to what was in use lately: those of the classes with
   * the most bytes that were not needed in this interval first, then of those with the most bytes.
   *
   * @param {number} bytes
   * @param {import('./magazine').Magazine} needed whose blocks stay
   */
  freeColdest(bytes, needed) {
    for (let wanted = bytes; wanted > 0; ) {
      const coldest = coldestOf(this.cache.magazines, needed)
      if (coldest === undefined) break
      const { blockSize, lowWatermark, count } = coldest
      const most = lowWatermark > 0 ? lowWatermark : 1
      const cut = min(ceil(wanted / blockSize), most, count)
      this.cut(coldest, cut, true, 'idle')
      // Those that were needed stay so.
      coldest.lowWatermark = min(coldest.lowWatermark, lowWatermark > cut ? lowWatermark - cut : 0)
      wanted -= cut * blockSize
    }
    this.letGo(bytes, SLICE)
  }

  /**
   * Has all that was cut off freed, and not kept.
   *
   * @param {Cut['reason']} reason
   */
  freeAllCuts(reason) {
    for (let cut = this.firstCut; cut !== null; cut = cut.next) {
      cut.frees = true
      cut.reason ??= reason
    }
  }

  /**
   * Cuts slots off a magazine: nobody leases them any more.
   *
   * @param {import('./magazine').Magazine} magazine
   * @param {number} count at most what the magazine holds
   * @param {boolean} frees
   * @param {Cut['reason']} [reason]
   */
  cut(magazine, count, frees, reason) {
    if (count === 0) return
    this.cutBytes += count * magazine.blockSize
    /** @type {Cut} */
    const cut = { slots: magazine.cut(count), frees, reason, next: null }
    if (this.lastCut === null) this.firstCut = cut
    else this.lastCut.next = cut
    this.lastCut = cut
  }

  /**
   * Lets go of slots that were cut off, until `bytes` of them are, or `most` blocks. Returns the bytes of which it
   * has. The others follow in the next turns.
   *
   * @param {number} bytes
   * @param {number} most
   */
  letGo(bytes, most) {
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
      const { blockSize } = /** @type {import('./magazine').Magazine} */ (slot.magazine)
      this.cutBytes -= blockSize
      const gone = this.cache.flushSlot(slot, cut.frees)
      flushed += gone
      if (cut.reason !== undefined) this.unpublished[cut.reason] += gone
    }
    if (this.firstCut !== null || this.hasUnpublished) this.goOn()
    if (this.firstCut === null && this.cache.held === this.cache.leased) {
      this.stopBeingWatched()
    }
    return flushed
  }

  get hasUnpublished() {
    const { idle, pressure, call } = this.unpublished
    return idle + pressure + call > 0
  }

  /** Has the next turn of the event loop let go of what is left, and publish what was freed. */
  goOn() {
    if (this.isGoingOn) return
    setImmediate(() => {
      this.isGoingOn = false
      if (this.firstCut !== null) this.letGo(Infinity, SLICE)
      if (this.untrimmed > 0) this.unpublished.call += this.trimDepot(this.untrimmed)
      if (this.othersWait) this.cache.waiting.collect()
      this.cache.forgetSegments()
      if (this.firstCut === null) native.shrink(this.cache.attachment)
      this.publishFreed()
    }).unref()
    this.isGoingOn = true
  }

  /**
   * Frees idle blocks, those in the depot first, until at most `keepBytes` are left. Returns the bytes freed now:
   * of so many blocks, and the others follow in the next turns. Other threads are told to give up theirs.
   *
   * @param {number} keepBytes
   */
  trim(keepBytes) {
    this.cache.fold()
    const excess = this.cache.stats().idleBytes - keepBytes
    if (excess <= 0) {
      native.shrink(this.cache.attachment)
      return 0
    }
    let freed = this.trimDepot(excess)
    this.unpublished.call += freed
    const rest = excess - freed - this.untrimmed
    if (rest > 0) freed += this.flushBytes(rest, true, SLICE, 'call')
    const others = excess - freed - this.untrimmed - this.cutBytes
    if (others > 0) native.trimOthers(this.cache.attachment, others)
    this.cache.forgetSegments()
    this.publishFreed()
    return freed
  }

  /**
   * Frees idle blocks of the depot, a slice of them, and the others in the next turns. Returns the bytes freed now.
   *
   * @param {number} bytes
   */
  trimDepot(bytes) {
    const { attachment } = this.cache
    const freed = native.trim(attachment, bytes, SLICE)
    this.untrimmed = min(bytes - freed, native.depotBytes(attachment))
    if (this.untrimmed > 0) this.goOn()
    return freed
  }

  /** Gives up everything idle in this thread. */
  empty() {
    this.flushBytes(Infinity, true, SLICE)
  }

  /** Publishes what was freed. Last, where other things are done: its subscribers may do anything. */
  publishFreed() {
    const { idle, pressure, call } = this.unpublished
    this.unpublished = { idle: 0, pressure: 0, call: 0 }
    this.publishTrim(pressure, 'pressure')
    this.publishTrim(call, 'call')
    this.publishTrim(idle, 'idle')
  }

  /**
   * @param {number} bytes
   * @param {'idle' | 'pressure' | 'call'} reason
   */
  publishTrim(bytes, reason) {
    if (bytes > 0 && channels.trim.hasSubscribers) {
      channels.trim.publish({ pool: this.cache.name, bytes, reason })
    }
  }

  /** Is on the alert, or not, as things stand. */
  beAlert() {
    this.cache.attendTo(!this.isWatched || this.othersWait)
  }
}

closeOff(Trimmer)

/**
 * @param {import('./magazine').Magazine[]} magazines
 * @param {import('./magazine').Magazine} needed not this one
 */
function coldestOf(magazines, needed) {
  let coldest
  let unused = 0
  let idle = 0
  for (let i = 0; i < magazines.length; i++) {
    const magazine = magazines[i]
    const { blockSize, count, lowWatermark } = magazine
    if (count === 0 || magazine === needed) continue
    if (lowWatermark * blockSize < unused) continue
    if (lowWatermark * blockSize > unused || count * blockSize > idle) {
      coldest = magazine
      unused = lowWatermark * blockSize
      idle = count * blockSize
    }
  }
  return coldest
}

const callIt = (/** @type {() => void} */ giveUp) => giveUp()

/**
 * A waker's callback. It holds the thread cache no longer than the pool's users do.
 *
 * @param {WeakRef<Trimmer>} trimmer
 */
function onWakeFor(trimmer) {
  return () => deref(trimmer)?.onWake()
}

module.exports = { Trimmer }
