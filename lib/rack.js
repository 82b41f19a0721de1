'use strict'

/**
 * All magazines of one pool in one thread, and the ways a block takes through them:
 *
 *   lease:    magazine ──▶ Buffer          release:  Buffer ──▶ magazine
 *   fill:     depot ─────▶ magazine        recall:   magazine ──▶ finalizer ──▶ depot
 *
 * - A slot MUST be in a magazine, or leased, and never both.
 * - A state MUST be written only while the slot's ArrayBuffer is attached.
 * - An ArrayBuffer MUST be let go of by detaching or by dropping it: only its finalizer may
 *   take the block to the depot, because native code may still hold the backing store.
 */

const { setImmediate } = require('node:timers')
const native = require('./native')
const {
  ASKED_BYTES,
  COLLECTED_BYTES,
  IDLE,
  LAST_SEAT,
  LEASED,
  LEASES,
  PEAK_BYTES,
  STATE,
  UNPOOLED_BYTES,
  UNPOOLED_COUNT,
  UNPOOLED_RELEASES
} = require('./ledger')
const { transfer } = require('./runtime')
const { Slot } = require('./slot')
const { Magazine, UNIT } = require('./magazine')
const { blockSizes } = require('./size-class')

const { seatsPerSegment } = native.layout()

/** The most bytes that a thread's magazines together keep from one turn to the next. */
const RACK_BYTES = 64 * 1024 * 1024

/** The floor of a closed pool: every release overflows. A small integer, as floors are. */
const CLOSED = 2 ** 30

/** Its fields are plain ones, and cheaper so: only a pool's private field leads to a rack. */
class Rack {
  /**
   * @param {import('./buffer-pool').BufferPool} pool
   * @param {import('./native').Attachment} attachment
   * @param {boolean} scrubs whether release overwrites the block with zeros
   */
  constructor(pool, attachment, scrubs) {
    this.pool = pool
    this.attachment = attachment
    this.scrubs = scrubs
    /** The thread's counters. */
    this.words = new Float64Array(native.words(attachment))
    this.magazines = blockSizes.map((blockSize, index) => new Magazine(index, blockSize))
    /**
     * The ledger's segments, by index. Without a prototype: no setter gets to see them.
     *
     * @type {Record<number, Float64Array>}
     */
    this.segments = Object.create(null)
    /** Units leased, without what was collected since the last `fold`. */
    this.leased = 0
    /** The most units that were leased at a time. */
    this.peak = 0
    /** Units leased or idle here, without what was collected since the last `fold`. */
    this.held = 0
    /** With fewer units leased than this, the magazines hold more than RACK_BYTES. */
    this.floor = -RACK_BYTES / UNIT
    /** Collected bytes that `leased` and `held` know of. */
    this.folded = 0
    this.spillIsDue = false
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
    words[at + LEASES]++
    words[at + ASKED_BYTES] += size
    this.leased += magazine.units
    if (this.leased > this.peak) this.raisePeak()
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
    slot.words[slot.at + STATE] = IDLE
    this.leased -= magazine.units
    const { warmest } = magazine
    magazine.warmest = slot
    if (warmest !== null) this.putBelow(magazine, warmest)
    if (this.leased < this.floor) this.overflow()
  }

  /**
   * Puts a slot on a magazine's stack, below the warmest.
   *
   * @param {Magazine} magazine
   * @param {Slot} slot idle
   */
  putBelow(magazine, slot) {
    magazine.push(slot)
    if (magazine.depth > magazine.capacity) this.overflow()
  }

  /**
   * Fetches blocks into an empty magazine. Whether it got any: not where the pool is closed.
   *
   * @param {Magazine} magazine
   */
  fill(magazine) {
    this.fold()
    for (let i = 0; i < magazine.batch; i++) {
      const arrayBuffer = native.lendIdle(this.attachment, magazine.index)
      if (arrayBuffer === null) break
      this.seat(magazine, arrayBuffer)
    }
    if (magazine.count === 0) {
      const arrayBuffer = native.lendFresh(this.attachment, magazine.index)
      if (arrayBuffer !== null) this.seat(magazine, arrayBuffer)
    }
    return magazine.count > 0
  }

  /**
   * Makes a slot for the block that was lent last.
   *
   * @param {Magazine} magazine
   * @param {ArrayBuffer} lent
   */
  seat(magazine, lent) {
    const seat = this.words[LAST_SEAT]
    // Node keeps an eye on the ArrayBuffer that it made, and aborts at the end of the thread where
    // the user has marked that as untransferable. So nobody ever sees it.
    const arrayBuffer = transfer === undefined ? lent : transfer(lent)
    magazine.push(new Slot(this.pool, magazine, arrayBuffer, this.segmentOf(seat), seat))
    this.hold(magazine.units)
  }

  /** @param {number} seat */
  segmentOf(seat) {
    const index = Math.floor(seat / seatsPerSegment)
    this.segments[index] ??= new Float64Array(native.segment(this.attachment, index))
    return this.segments[index]
  }

  /**
   * Takes a leased block back where the runtime has no `transfer()`, on Node 20: detached here,
   * and in the depot when the finalizer has run, in a later turn of the event loop. Whether it
   * could be detached.
   *
   * @param {Slot} slot
   * @param {Magazine} magazine the slot's
   */
  giveBackByFinalizer(slot, magazine) {
    if (!this.detach(slot, magazine, this.isClosed)) return false
    slot.forget()
    this.leased -= magazine.units
    this.hold(-magazine.units)
    return true
  }

  /**
   * Lets go of a slot's ArrayBuffer by detaching it. Whether it could be detached.
   *
   * @param {Slot} slot
   * @param {Magazine} magazine
   * @param {boolean} condemn to be freed, not kept
   */
  detach(slot, magazine, condemn) {
    let arrayBuffer = /** @type {ArrayBuffer} */ (slot.arrayBuffer)
    if (transfer !== undefined) {
      try {
        // Node would abort on one that the user has marked as untransferable; this throws.
        arrayBuffer = transfer(arrayBuffer)
      } catch {
        return false
      }
    }
    return native.detach(this.attachment, arrayBuffer, slot.seat, magazine.index, condemn)
  }

  /**
   * Lets go of the coldest blocks of a magazine: they come to the depot, or are freed, when
   * their finalizers run. Returns the bytes that do; one that can't be detached follows when the
   * garbage collector finds it.
   *
   * @param {Magazine} magazine
   * @param {number} count at most what the magazine holds
   * @param {boolean} condemn to be freed, not kept
   */
  recall(magazine, count, condemn) {
    let bytes = 0
    let slot = magazine.cutColdest(count)
    while (slot !== null) {
      const { colder } = slot
      slot.colder = null
      if (this.detach(slot, magazine, condemn)) bytes += magazine.blockSize
      slot.forget()
      this.hold(-magazine.units)
      slot = colder
    }
    return bytes
  }

  /**
   * The magazines hold more than they may keep. What is too much goes at the end of this turn
   * and not now: finalizers don't run within a turn, so a loop that leases and releases more
   * than the bound would get new memory each time round.
   */
  overflow() {
    if (native.isClosed(this.attachment)) {
      this.empty()
    } else if (!this.spillIsDue) {
      setImmediate(() => {
        this.spillIsDue = false
        this.spill()
      }).unref()
      this.spillIsDue = true
    }
  }

  /** Brings every magazine, and all together, back under their bounds, by half. */
  spill() {
    this.fold()
    for (let i = 0; i < this.magazines.length; i++) {
      const magazine = this.magazines[i]
      if (magazine.count > magazine.capacity) {
        this.recall(magazine, magazine.count - (magazine.capacity >> 1), false)
      }
    }
    if (this.leased < this.floor) {
      this.recallBytes((this.floor - this.leased) * UNIT + RACK_BYTES / 2, false)
    }
  }

  /**
   * Recalls blocks, the largest first, until `bytes` of them are or none is left.
   *
   * @param {number} bytes
   * @param {boolean} condemn
   */
  recallBytes(bytes, condemn) {
    let recalled = 0
    for (let i = this.magazines.length - 1; i >= 0 && recalled < bytes; i--) {
      const magazine = this.magazines[i]
      const wanted = Math.ceil((bytes - recalled) / magazine.blockSize)
      recalled += this.recall(magazine, Math.min(wanted, magazine.count), condemn)
    }
    return recalled
  }

  /**
   * Frees idle blocks, those in the depot first, until at most `keepBytes` are left that this
   * thread can reach. Returns the bytes given up.
   *
   * @param {number} keepBytes
   */
  trim(keepBytes) {
    this.fold()
    const excess = native.stats(this.attachment).total.idleBytes - keepBytes
    if (excess <= 0) return 0
    const freed = native.trim(this.attachment, excess)
    return freed + this.recallBytes(excess - freed, true)
  }

  /** Ends leasing, in all threads; what is idle in this one is freed. */
  close() {
    native.close(this.attachment)
    this.floor = CLOSED
    this.empty()
  }

  /** Gives up everything idle in this thread. */
  empty() {
    for (let i = 0; i < this.magazines.length; i++) {
      this.recall(this.magazines[i], this.magazines[i].count, true)
    }
  }

  /** Whether any thread has closed the pool. */
  get isClosed() {
    return native.isClosed(this.attachment)
  }

  /** The books, all threads together. */
  stats() {
    return native.stats(this.attachment)
  }

  /** @param {number} units more, or fewer, that are leased or idle here */
  hold(units) {
    this.held += units
    if (this.floor !== CLOSED) this.floor = this.held - RACK_BYTES / UNIT
  }

  /** Takes off what finalizers have taken back from the user since last time. */
  fold() {
    const collected = this.words[COLLECTED_BYTES]
    // Cut to an integer, as it is anyway, for V8 to know: sums of integers are faster.
    const units = ((collected - this.folded) / UNIT) | 0
    this.folded = collected
    this.leased -= units
    this.hold(-units)
  }

  raisePeak() {
    this.fold()
    if (this.leased <= this.peak) return
    this.peak = this.leased
    this.words[PEAK_BYTES] = this.leased * UNIT
  }
}

module.exports = { Rack }
