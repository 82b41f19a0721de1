'use strict'

/**
 * All magazines of one pool in one thread, and the ways a block takes through them:
 *
 *   lease:    magazine ──▶ Buffer          release:  Buffer ──▶ magazine
 *   fill:     depot ─────▶ magazine        flushSlot:   magazine ──▶ detached ──▶ depot
 *
 * - A slot MUST be in a magazine, or leased, and never both.
 * - A state MUST be written only while the slot's ArrayBuffer is attached.
 * - An ArrayBuffer MUST be let go of by detaching or by dropping it: the core takes the block back when
 *   the backing store is gone, and not before, because native code may still hold it.
 */

const { isMainThread } = require('node:worker_threads')
const { Calibration } = require('../pool/calibration')
const { Trimmer } = require('./trimmer')
const { OutOfMemory } = require('../pool/errors')
const { Lease, bufferOf } = require('../pool/lease')
const { LeasedElsewhere } = require('./leased-elsewhere')
const native = require('../runtime/native')
const {
  ASKED_BYTES,
  IDLE,
  LAST_IS_FRESH,
  LAST_ROW,
  LAST_SEGMENT,
  LEASED,
  LEASES,
  MISSES,
  PEAK_BYTES,
  RECENT_PEAK_BYTES,
  RELEASES,
  SAMPLE,
  SAMPLED,
  SEGMENTS_GONE,
  STATE,
  ENDED_ELSEWHERE_BYTES,
  SURPLUS_BYTES,
  UNPOOLED_BYTES,
  UNPOOLED_COUNT,
  UNPOOLED_RELEASES
} = require('./thread-counters')
const detaching = require('./detach')
const keeping = require('./reuse')
const { Magazine, CACHE_UNITS, UNIT, UNUSED } = require('./magazine')
const {
  Bytes,
  Floats,
  allocUnsafeSlow,
  arrayBufferOf,
  bufferOver,
  byteLengthOf,
  closeOff,
  isExternal,
  listOf,
  transfer,
  transferByV8,
  zero,
  zeroFill,
  zeroWhole
} = require('../runtime/intrinsics')
const { Sampler } = require('./sampler')
const { blockSizes, classOf } = require('./size-class')
const { Slot, isLeased } = require('./slot')
const { readStats } = require('../pool/stats')
const { slotOf } = require('./tag')
const { Waiting } = require('./waiting')

const { create } = Object
const { idleAllowance, segmentShift } = native.layout()

const CLASSES = blockSizes.length
const { max, min } = Math

/** A block of at most so many classes above serves a request where much is idle: one up to twice as large. */
const MOST_LARGER = 4

/** What becomes of a block whose ArrayBuffer is detached, as the addon numbers it. */
const KEEP = 0
const FREE = 1
const DISCARD = 2

/** Its fields are plain ones, and cheaper so: only a pool's private field leads to a thread cache. */
class ThreadCache {
  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {import('../runtime/native').Attachment} attachment
   * @param {(size: number) => Buffer} leaseElsewhere a lease that no block serves
   */
  constructor(pool, attachment, leaseElsewhere) {
    const settings = native.settings(attachment)
    this.pool = pool
    /** What V8 serves in this library's own use: set by the pool, which decides. */
    this.leaseElsewhere = leaseElsewhere
    /** Requests above this many bytes are not served from blocks. */
    this.largest = settings.maxBlockSize
    /** @type {Calibration | undefined} */
    this.calibrated = undefined
    this.name = settings.name
    this.maxBytes = settings.maxBytes
    this.attachment = attachment
    /** What hangs on an ArrayBuffer whose memory has moved on. */
    this.gone = new Slot(pool, null, new ArrayBuffer(0), new Floats(0), 0)
    this.gone.forget()
    /** Whether release overwrites the block with zeros. */
    this.scrubs = settings.zeroOnRelease
    this.way = settings.detachOnRelease ? detaching : keeping
    /** The thread's counters. */
    this.words = new Floats(native.words(attachment))
    /** By class. */
    this.magazines = listOf(CLASSES, (index) => UNUSED[index])
    /**
     * The counters's segments, by index. Without a prototype: no setter gets to see them.
     *
     * @type {Record<number, { name: number, words: Float64Array, slots: Record<number, WeakRef<Slot>>,
     *   blockSize: number }>}
     */
    this.segments = create(null)
    /** How many segments had gone when the others were looked at last. */
    this.segmentsGone = 0
    /** Units leased, without strays since the last `fold`. */
    this.leased = 0
    /** The most units that were leased at a time in this interval, as far as a release has shown. */
    this.peak = 0
    /** The same of the interval before. */
    this.lastPeak = 0
    /** Units leased or idle here, without strays since the last `fold`. */
    this.held = 0
    /** Whether each release is attended to. */
    this.attendsToEach = true
    /**
     * With fewer units leased than this, a release is attended to: the magazines hold more than CACHE_BYTES.
     */
    this.floor = 0
    /** `peak - floor`; with more units leased than the peak, a release is attended to. */
    this.span = -1
    /** Stray bytes that `leased` and `held` know of. */
    this.folded = 0
    this.cachesNothing = settings.idleTimeout === 0
    this.cachesAll = settings.idleTimeout === Infinity
    /**
     * Where too much is idle, the magazine that serves instead of one that is empty.
     *
     * @type {Magazine | undefined}
     */
    this.larger = undefined
    /** Whether a lease is of one who waited: then the call site here is not the user's. */
    this.isGranting = false
    /** Whether the last fill got nothing. */
    this.isRefused = false
    /** Whether other threads may come by this thread's memory, and give it back. */
    this.isShared = !isMainThread
    this.elsewhere = new LeasedElsewhere(this)
    this.trimmer = new Trimmer(this)
    this.sampler = new Sampler(settings.name, settings.leakSampleRate)
    this.waiting = new Waiting(this)
  }

  /** What was learned from growable buffers, of a pool that has had some. */
  get calibration() {
    this.calibrated ??= new Calibration()
    return this.calibrated
  }

  /**
   * Notes that a slot is leased from now on. Small enough to be compiled into its callers.
   *
   * @param {Magazine} magazine the slot's
   * @param {Slot} slot
   * @param {number} size
   */
  book(magazine, slot, size) {
    const { words, at } = slot
    words[at + STATE] = LEASED
    words[ASKED_BYTES] += size
    slot.generation++
    this.leased += magazine.units
    if (++words[LEASES] === 0) this.sample(slot, size)
  }

  /**
   * Notes a lease that V8 serves.
   *
   * @param {number} size
   */
  bookUnpooled(size) {
    this.words[UNPOOLED_COUNT]++
    this.words[UNPOOLED_BYTES] += size
  }

  bookUnpooledRelease() {
    this.words[UNPOOLED_RELEASES]++
  }

  /**
   * Puts a slot that was leased into its magazine. Small enough to be compiled into its callers.
   *
   * @param {Slot} slot
   * @param {Magazine} magazine the slot's
   */
  putBack(slot, magazine) {
    const { words } = slot
    words[slot.at + STATE] = IDLE
    words[RELEASES]++
    const { leased } = this
    this.leased = leased - magazine.units
    const { top } = magazine
    magazine.top = slot
    if (top !== null) this.putBelow(magazine, top)
    const above = leased - this.floor
    if (above < 0 || above > this.span) this.attend(leased)
  }

  /**
   * Puts a slot on a magazine's stack, below the top.
   *
   * @param {Magazine} magazine
   * @param {Slot} slot idle
   */
  putBelow(magazine, slot) {
    magazine.push(slot)
    if (magazine.depth > magazine.capacity) this.trimmer.scheduleFlush()
  }

  /**
   * Fetches blocks into an empty magazine. Whether it got any: not at the ceiling, nor where the
   * pool is closed.
   *
   * @param {Magazine} magazine
   */
  fill({ index }) {
    const magazine = this.magazineOf(index)
    this.raisePeak(this.leased)
    for (let i = 0; i < magazine.batch; i++) {
      const lent = native.lendIdle(this.attachment, magazine.index)
      if (lent === null) break
      this.addSlot(magazine, lent)
    }
    if (magazine.count === 0 && this.findLarger(index)) {
      this.isRefused = true
      return false
    }
    if (magazine.count === 0) {
      let lent = native.lendFresh(this.attachment, magazine.index)
      if (typeof lent === 'number') lent = this.makeRoom(magazine, lent)
      if (lent !== null) {
        this.addSlot(magazine, lent)
        const surplus = this.words[SURPLUS_BYTES]
        if (surplus > 0) this.trimmer.freeColdest(surplus, magazine)
      }
    }
    const { count } = magazine
    // What is fetched beyond the one that is wanted may lie here without a release ever.
    if (count > 1 && !this.trimmer.isWatched) this.trimmer.beWatched()
    this.isRefused = count === 0
    return count > 0
  }

  /**
   * The magazine of a class, which is made when the class is first used.
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
   * Looks for an idle block that is larger than needed, where much is idle compared to what was leased lately: to
   * get another one would add to that. Whether there is one, for `leaseLarger`.
   *
   * @param {number} index of the class that has none
   */
  findLarger(index) {
    this.larger = undefined
    if (this.cachesAll) return false
    const idle = (this.held - this.leased) * UNIT + native.depotBytes(this.attachment)
    if (idle <= max(idleAllowance, this.words[RECENT_PEAK_BYTES] / 2)) return false
    // Those who wait come first.
    if (this.isClosed || !native.nobodyWaits(this.attachment)) return false
    const last = min(index + MOST_LARGER, CLASSES - 1)
    for (let i = index + 1; i <= last; i++) {
      if (this.magazines[i].count === 0) {
        const lent = native.lendIdle(this.attachment, i)
        if (lent === null) continue
        this.addSlot(this.magazineOf(i), lent)
      }
      this.larger = this.magazines[i]
      return true
    }
    return false
  }

  /**
   * A lease of the block that `findLarger` has found, if any.
   *
   * @param {number} size
   */
  leaseLarger(size) {
    const { larger } = this
    this.larger = undefined
    if (larger === undefined || larger.blockSize < size) return undefined
    this.isRefused = false
    return this.leaseFrom(larger, size)
  }

  /** Whether the lease that led here was refused already; asked once. */
  takeRefusal() {
    const { isRefused } = this
    this.isRefused = false
    return isRefused
  }

  /**
   * A block under the ceiling, for which idle blocks of other classes give way. `null` where they are
   * not enough: then other threads are asked to give up theirs, for the next time.
   *
   * @param {Magazine} magazine
   * @param {number} shortage in bytes
   */
  makeRoom(magazine, shortage) {
    if (this.trimmer.flushBytes(shortage, true, Infinity) > 0) {
      const lent = native.lendFresh(this.attachment, magazine.index)
      if (typeof lent !== 'number') return lent
      shortage = lent
    }
    native.ask(this.attachment, shortage)
    return null
  }

  /**
   * Makes a slot for the block that was lent last.
   *
   * @param {Magazine} magazine
   * @param {import('../runtime/native').Lent} lent
   */
  addSlot(magazine, lent) {
    const row = this.words[LAST_ROW]
    const arrayBuffer = isExternal ? moved(lent) : this.allocate(magazine, row)
    const words = this.segmentFor(magazine, row, arrayBuffer)
    const slot = new Slot(this.pool, magazine, arrayBuffer, words, row)
    // Its first lease follows.
    words[MISSES] += this.words[LAST_IS_FRESH]
    // It goes with the slot, and tells the core when that is collected.
    if (!isExternal) slot.guard = lent
    // What V8 has is not the pool's any more once it is posted.
    if (isExternal) this.elsewhere.know(slot)
    magazine.push(slot)
    this.hold(magazine.units)
    this.trimmer.listen()
  }

  /**
   * Memory of V8's for a block, on a runtime that allows no other.
   *
   * @param {Magazine} magazine
   * @param {number} row
   */
  allocate({ blockSize }, row) {
    try {
      const arrayBuffer = /** @type {ArrayBuffer} */ (arrayBufferOf(allocUnsafeSlow(blockSize)))
      // The class of Buffers is within reach of other code, which would have seen it.
      return moved(arrayBuffer)
    } catch {
      native.withdraw(this.attachment, row)
      throw new OutOfMemory(blockSize)
    }
  }

  /**
   * The words of a row's segment. Where there are none to be had, the block goes back: nobody has seen it.
   *
   * @param {Magazine} magazine
   * @param {number} row
   * @param {ArrayBuffer} arrayBuffer of the block that has the row
   */
  segmentFor(magazine, row, arrayBuffer) {
    try {
      return this.segmentOf(row)
    } catch (error) {
      if (isExternal) native.detach(this.attachment, arrayBuffer, row, magazine.index, KEEP)
      else native.withdraw(this.attachment, row)
      throw error
    }
  }

  /** @param {number} row */
  segmentOf(row) {
    const index = row >>> segmentShift
    const name = this.words[LAST_SEGMENT]
    const known = this.segments[index]
    if (known !== undefined && known.name === name) return known.words
    const words = new Floats(native.segment(this.attachment, index))
    this.segments[index] = { name, words, slots: create(null), blockSize: 0 }
    this.sampler.countDown(words)
    return words
  }

  /**
   * Takes a leased block back where the runtime has no `transfer()`, on Node 20: detached here, it
   * goes to the depot. Whether it could be detached.
   *
   * @param {Slot} slot
   * @param {Magazine} magazine the slot's
   */
  giveBackByFinalizer(slot, magazine) {
    return this.letGo(slot, magazine, this.isClosed || this.cachesNothing ? FREE : KEEP)
  }

  /**
   * Ends a lease by detaching its ArrayBuffer. Whether it could be detached.
   *
   * @param {Slot} slot leased
   * @param {Magazine} magazine the slot's
   * @param {number} fate
   */
  letGo(slot, magazine, fate) {
    // The core scrubs its own memory; what V8 has goes to whoever comes next.
    if (this.scrubs && !isExternal) zero(/** @type {ArrayBuffer} */ (slot.arrayBuffer))
    // First: the segment may go with the block.
    slot.words[RELEASES]++
    if (!this.detach(slot, magazine, fate)) {
      slot.words[RELEASES]--
      return false
    }
    slot.forget()
    this.raisePeak(this.leased)
    this.leased -= magazine.units
    this.hold(-magazine.units)
    if (!this.waiting.isEmpty) this.waiting.collect()
    return true
  }

  /**
   * Lets go of a slot's ArrayBuffer by detaching it. Whether it could be detached.
   *
   * @param {Slot} slot
   * @param {Magazine} magazine
   * @param {number} fate
   */
  detach(slot, magazine, fate) {
    let arrayBuffer = /** @type {ArrayBuffer} */ (slot.arrayBuffer)
    if (transferByV8 !== undefined) {
      try {
        // Node would abort on one that the user has marked as untransferable; this throws.
        arrayBuffer = transferByV8(arrayBuffer)
      } catch {
        return false
      }
    }
    return native.detach(this.attachment, arrayBuffer, slot.row, magazine.index, fate)
  }

  /**
   * Lets go of an idle block: it goes to the depot, or is freed, at once where the runtime tells that the
   * backing store is gone, else when its finalizer runs. Returns its bytes; 0 of one that can't be detached,
   * which follows when the garbage collector finds it.
   *
   * @param {Slot} slot in no magazine any more
   * @param {boolean} frees to be freed, not kept
   */
  flushSlot(slot, frees) {
    const magazine = /** @type {Magazine} */ (slot.magazine)
    const isDetached = this.detach(slot, magazine, frees ? FREE : KEEP)
    slot.forget()
    this.hold(-magazine.units)
    return isDetached ? magazine.blockSize : 0
  }

  /** Lets go of the words of segments that have gone. */
  forgetSegments() {
    const gone = this.words[SEGMENTS_GONE]
    if (gone === this.segmentsGone) return
    this.segmentsGone = gone
    for (const index in this.segments) {
      const { name } = this.segments[index]
      if (!native.hasSegment(this.attachment, Number(index), name)) delete this.segments[index]
    }
  }

  /**
   * A block was released while the thread cache is on the alert, holds too much, or had more leased than ever.
   *
   * @param {number} leased units, before the release
   */
  attend(leased) {
    if (leased > this.peak) this.raisePeak(leased)
    if (this.attendsToEach || leased < this.floor) this.trimmer.attend(leased)
  }

  /**
   * A view of all of a block, for this library's own use: where nobody else gets to know it, its
   * memory need not move at release. `undefined` where there is no room, or the pool is closed.
   *
   * @param {number} size whole, from 0 up
   * @returns {Uint8Array | undefined}
   */
  leaseWhole(size) {
    if (size === 0 || size > this.largest) return undefined
    const magazine = this.magazines[classOf(size)]
    const { blockSize } = magazine
    if (this.way === keeping) {
      const view = keeping.lease(this, blockSize)
      return view !== undefined && zeroFill ? zeroWhole(view) : view
    }
    const slot = magazine.take()
    if (slot === undefined) return this.fill(magazine) ? this.leaseWhole(size) : undefined
    if (zeroFill) zero(/** @type {ArrayBuffer} */ (slot.arrayBuffer))
    if (slot.size !== blockSize || slot.view[0] === undefined) {
      // No Buffer: its class is within reach of other code, which would see the ArrayBuffer.
      slot.view = new Bytes(/** @type {ArrayBuffer} */ (slot.arrayBuffer), 0, blockSize)
      slot.size = blockSize
    }
    this.book(magazine, slot, blockSize)
    return slot.view
  }

  /**
   * Gives a leased block up: it is not to be kept. Whether its ArrayBuffer could be detached.
   *
   * @param {Slot} slot
   */
  discard(slot) {
    if (!isLeased(slot)) return false
    this.sampler.drop(slot)
    return this.letGo(slot, /** @type {Magazine} */ (slot.magazine), DISCARD)
  }

  /**
   * A lease that its holder keeps by its slot; `undefined` where there is no room, or the pool is closed. No other code
   * sees its Buffer before its holder.
   *
   * @param {number} size whole, from 1 to the largest block size
   * @returns {Lease | undefined}
   */
  lease(size) {
    return this.leaseFrom(this.magazines[classOf(size)], size)
  }

  /**
   * @param {Magazine} magazine of blocks that are large enough
   * @param {number} size
   * @returns {Lease | undefined}
   */
  leaseFrom(magazine, size) {
    const slot = magazine.take()
    if (slot === undefined) return this.fill(magazine) ? this.lease(size) : this.leaseLarger(size)
    const arrayBuffer = /** @type {ArrayBuffer} */ (slot.arrayBuffer)
    if (byteLengthOf(arrayBuffer) === 0) {
      this.dropMoved(magazine)
      return this.lease(size)
    }
    // Here, and not where it is used: the flag is for each lease, this library's own included.
    if (zeroFill) zero(arrayBuffer)
    const buffer = bufferOver(arrayBuffer, size)
    if (this.way === keeping) {
      slot.view = buffer
      slot.size = size
    }
    this.book(magazine, slot, size)
    return new Lease(buffer, slot)
  }

  /**
   * A slot was taken out of a magazine whose block someone has transferred through a stale view: its finalizer
   * will bring it. Drops the next ones of that kind, too: there may be too many for a recursion.
   *
   * @param {Magazine} magazine
   */
  dropMoved(magazine) {
    this.hold(-magazine.units)
    for (;;) {
      const slot = magazine.take()
      if (slot === undefined) return
      if (byteLengthOf(/** @type {ArrayBuffer} */ (slot.arrayBuffer)) > 0) {
        magazine.push(slot)
        return
      }
      this.hold(-magazine.units)
    }
  }

  /**
   * A lease, unless the pool is at its ceiling, or others wait.
   *
   * @param {number} size
   */
  tryLease(size) {
    if (!native.nobodyWaits(this.attachment)) return undefined
    const lease = this.lease(size)
    this.isRefused = false
    return lease
  }

  /**
   * Waits for a block.
   *
   * @param {number} size
   * @param {(lease: Lease) => void} onLease
   * @param {(reason: unknown) => void} onError
   * @returns {number} the ticket, to cancel
   */
  wait(size, onLease, onError) {
    this.trimmer.listen()
    const stack = this.takeSample()
    const magazine = this.magazineOf(classOf(size))
    const ticket = this.waiting.wait({ magazine, size, stack, onLease, onError })
    this.trimmer.giveUpForOthers()
    return ticket
  }

  /**
   * Leases the block that a waiter was granted.
   *
   * @param {Magazine} magazine
   * @param {import('../runtime/native').Lent} lent
   * @param {number} size
   * @param {string | undefined} stack where it was asked for, if that is to be recorded
   */
  leaseGranted(magazine, lent, size, stack) {
    this.addSlot(magazine, lent)
    this.isGranting = true
    let lease
    try {
      lease = /** @type {Lease} */ (this.lease(size))
    } finally {
      this.isGranting = false
    }
    if (stack) {
      const slot = /** @type {Slot} */ (slotOf(arrayBufferOf(bufferOf(lease))))
      this.sampler.record(slot, size, stack)
    }
    return lease
  }

  /**
   * Records where a lease was taken.
   *
   * @param {Slot} slot just leased
   * @param {number} size
   */
  sample(slot, size) {
    const { words, at } = slot
    this.sampler.countDown(words)
    if (this.isGranting) return
    // Without a record: a user's formatter of stacks may run now, and must not release by a stale view what its
    // caller has not got yet.
    words[at + SAMPLE] = 0
    words[at + STATE] = SAMPLED
    const stack = this.sampler.take(this.book)
    // It may have moved the memory elsewhere.
    if (!isLeased(slot)) return
    if (stack) this.sampler.record(slot, size, stack)
    else words[at + STATE] = LEASED
  }

  /**
   * Whether anything but this thread's own code can end the wait for a block: there is room for it beside what this
   * thread has leased, and has in its hands. `undefined` where it has to be asked again, in another turn.
   *
   * @param {number} blockSize
   */
  canOthersServe(blockSize) {
    this.fold()
    const room = native.holdableBytes(this.attachment) - blockSize
    const excess = this.leased * UNIT - room
    if (excess <= 0) return true
    return isExternal ? this.elsewhere.isAtLeast(excess, this.isShared) : false
  }

  /** The call site of a lease that is to come later, if it is a sampled one. */
  takeSample() {
    return this.sampler.isDue() ? this.sampler.take(this.wait) : undefined
  }

  /** Ends leasing, in all threads; what is idle in this one is freed, and who waits is told. */
  close() {
    native.close(this.attachment)
    this.attendTo(true)
    this.trimmer.empty()
    this.waiting.collect()
  }

  /** Whether any thread has closed the pool. */
  get isClosed() {
    return native.isClosed(this.attachment)
  }

  /** The books, all threads together. */
  stats() {
    this.raisePeak(this.leased)
    return readStats(this)
  }

  /** Who holds sampled leases of this thread now. */
  holders() {
    this.trimmer.noteEnds()
    return this.sampler.holders()
  }

  /** @param {number} units more, or fewer, that are leased or idle here */
  hold(units) {
    this.held += units
    this.attendTo(this.attendsToEach)
  }

  /** @param {boolean} each whether each release is attended to, or only those that leave too much idle */
  attendTo(each) {
    this.attendsToEach = each
    this.floor = each ? 0 : this.held - CACHE_UNITS
    // Nothing is within a range that is less than empty.
    this.span = each ? -1 : this.peak - this.floor
  }

  /** Takes off the leases that have ended elsewhere since last time. */
  fold() {
    const stray = this.words[ENDED_ELSEWHERE_BYTES]
    const units = asInteger((stray - this.folded) / UNIT)
    this.folded = stray
    this.leased -= units
    this.hold(-units)
  }

  /** @param {number} leased units, perhaps the most ever, strays included */
  raisePeak(leased) {
    const strays = this.leased
    this.fold()
    const most = leased - (strays - this.leased)
    if (most <= this.peak) return
    this.peak = most
    this.tellPeaks()
  }

  tellPeaks() {
    const { peak, lastPeak, words } = this
    words[RECENT_PEAK_BYTES] = max(peak, lastPeak) * UNIT
    if (peak * UNIT > words[PEAK_BYTES]) words[PEAK_BYTES] = peak * UNIT
    this.attendTo(this.attendsToEach)
  }

  /** An interval is over: what was leased in the one before it is no measure any more. */
  beginInterval() {
    this.raisePeak(this.leased)
    this.lastPeak = this.peak
    this.peak = this.leased
    this.tellPeaks()
  }
}

closeOff(ThreadCache)

/**
 * A whole number as V8's small integer, if it fits: sums of these are faster. A division makes none by itself.
 *
 * @param {number} number
 */
function asInteger(number) {
  const cut = number | 0
  return cut === number ? cut : number
}

/**
 * The memory of an ArrayBuffer that Node made in one that it did not make. Node keeps an eye on its
 * own: it refuses to post it, and aborts at the end of the thread where the user has marked it as
 * untransferable. So nobody ever sees it.
 *
 * @param {ArrayBuffer} made
 */
function moved(made) {
  return transfer === undefined ? made : transfer(made)
}

module.exports = { ThreadCache }
