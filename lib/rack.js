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
 *   take the block to the depot, because native code may still be using the memory.
 */

const { setImmediate } = require('node:timers')
const native = require('./native')
const ledger = require('./ledger')
const { FastBuffer, transfer, zeroFill } = require('./runtime')
const { IDLE, LEASED, Slot, hang } = require('./slot')
const { Magazine, UNIT } = require('./magazine')
const { blockSizes, classOf } = require('./size-class')

/** The most bytes that a thread's magazines together keep from one turn to the next. */
const RACK_BYTES = 64 * 1024 * 1024

const { ASKED_BYTES, COLLECTED_BYTES, LEASES, PEAK_BYTES, RELEASES } = ledger

class Rack {
  #pool
  #attachment
  #detaches
  #scrubs
  #magazines
  #words
  /** @type {Uint8Array[]} */
  #segments = []
  /** Units leased, and units leased or idle here; both without what was collected since the
   *  last `#fold`. */
  #leased = 0
  #held = 0
  #peak = 0
  /** Collected bytes that `#leased` and `#held` know of. */
  #folded = 0
  /** With fewer units leased than this, the magazines hold more than RACK_BYTES. */
  #floor = -RACK_BYTES / UNIT
  #spillIsDue = false

  /**
   * @param {object} pool
   * @param {import('./native').Attachment} attachment
   * @param {boolean} detaches whether release detaches every view
   * @param {boolean} scrubs whether release overwrites the block with zeros
   */
  constructor(pool, attachment, detaches, scrubs) {
    this.#pool = pool
    this.#attachment = attachment
    this.#detaches = detaches
    this.#scrubs = scrubs
    this.#words = new Float64Array(native.words(attachment))
    this.#magazines = blockSizes.map(
      (blockSize, index) => new Magazine(index, blockSize, ledger.classWord(index))
    )
  }

  /** The thread's counters. */
  get words() {
    return this.#words
  }

  // The fast path: `lease` and `giveBack`. No allocation but the view, no call into Rust.

  /**
   * A Buffer on an idle block; `undefined` where the pool is closed.
   *
   * @param {number} size whole, from 1 to the largest block size
   * @returns {Buffer | undefined}
   */
  lease(size) {
    const magazine = this.#magazines[classOf(size)]
    const depth = magazine.depth - 1
    if (depth < 0) return this.#leaseFilled(magazine, size)
    const slot = /** @type {Slot} */ (magazine.slots[depth])
    magazine.slots[depth] = null
    magazine.depth = depth
    return this.#handOut(magazine, slot, size)
  }

  /**
   * @param {Magazine} magazine
   * @param {Slot} slot idle, and in no magazine any more
   * @param {number} size
   * @returns {Buffer | undefined}
   */
  #handOut(magazine, slot, size) {
    let view = slot.view
    if (view === null || view.length !== size) {
      const arrayBuffer = /** @type {ArrayBuffer} */ (slot.arrayBuffer)
      if (arrayBuffer.byteLength === 0) {
        // Someone transferred it through a stale view; its finalizer will bring the block.
        this.#hold(-magazine.units)
        return this.lease(size)
      }
      view = new FastBuffer(arrayBuffer, 0, size)
      if (!this.#detaches) slot.view = view
    }
    if (zeroFill) view.fill(0)
    slot.states[slot.at] = LEASED
    slot.turn++
    const words = this.#words
    const word = magazine.word
    words[word + LEASES]++
    words[word + ASKED_BYTES] += size
    this.#leased += magazine.units
    if (this.#leased > this.#peak) this.#raisePeak()
    return view
  }

  /**
   * Takes a leased block back; every view of it becomes zero-length if the pool detaches.
   * Whether it could be taken: not where its ArrayBuffer was transferred or can't be detached,
   * which leaves the lease as it is.
   *
   * @param {Slot} slot leased
   * @param {Magazine} magazine the slot's
   */
  giveBack(slot, magazine) {
    if (this.#scrubs) scrub(slot)
    if (!this.#detaches) {
      if (/** @type {Buffer} */ (slot.view).length === 0) return false
      slot.states[slot.at] = IDLE
    } else if (transfer !== undefined) {
      let moved
      try {
        moved = transfer(/** @type {ArrayBuffer} */ (slot.arrayBuffer))
      } catch {
        return false
      }
      hang(moved, slot)
      slot.arrayBuffer = moved
      slot.states[slot.at] = IDLE
    } else {
      return this.#giveBackByFinalizer(slot, magazine)
    }
    this.#words[magazine.word + RELEASES]++
    this.#leased -= magazine.units
    magazine.slots[magazine.depth++] = slot
    if (magazine.depth > magazine.capacity || this.#leased < this.#floor) this.#overflow()
    return true
  }

  // The slow path.

  /**
   * The way without `transfer()`, on Node 20: detached here, and back in the depot when the
   * finalizer has run, in a later turn of the event loop.
   *
   * @param {Slot} slot
   * @param {Magazine} magazine
   */
  #giveBackByFinalizer(slot, magazine) {
    if (!this.#letGo(slot, magazine, native.isClosed(this.#attachment))) return false
    slot.arrayBuffer = null
    this.#words[magazine.word + RELEASES]++
    this.#leased -= magazine.units
    this.#hold(-magazine.units)
    return true
  }

  /**
   * @param {Magazine} magazine empty
   * @param {number} size
   */
  #leaseFilled(magazine, size) {
    this.#fold()
    const filled = native.fill(this.#attachment, magazine.index, magazine.batch)
    if (filled.length === 0) return undefined
    for (let i = 0; i < filled.length; i += 2) {
      const arrayBuffer = /** @type {ArrayBuffer} */ (filled[i])
      const seat = /** @type {number} */ (filled[i + 1])
      const states = this.#segmentOf(seat)
      magazine.slots[magazine.depth++] = new Slot(this.#pool, magazine, arrayBuffer, states, seat)
      this.#hold(magazine.units)
    }
    return this.lease(size)
  }

  /** @param {number} seat */
  #segmentOf(seat) {
    const first = this.#segments[0]
    const index = first === undefined ? 0 : Math.floor(seat / first.length)
    this.#segments[index] ??= new Uint8Array(native.segment(this.#attachment, index))
    return this.#segments[index]
  }

  /**
   * Lets go of a slot's ArrayBuffer by detaching it. Whether it could be detached.
   *
   * @param {Slot} slot
   * @param {Magazine} magazine
   * @param {boolean} condemn to be freed, not kept
   */
  #letGo(slot, magazine, condemn) {
    const arrayBuffer = /** @type {ArrayBuffer} */ (slot.arrayBuffer)
    return native.detach(this.#attachment, arrayBuffer, slot.seat, magazine.index, condemn)
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
  #recall(magazine, count, condemn) {
    let bytes = 0
    for (const slot of magazine.takeColdest(count)) {
      if (this.#letGo(slot, magazine, condemn)) bytes += magazine.blockSize
      slot.arrayBuffer = null
      slot.view = null
      this.#hold(-magazine.units)
    }
    return bytes
  }

  /**
   * The magazines hold more than they may keep. What is too much goes at the end of this turn
   * and not now: finalizers don't run within a turn, so a loop that leases and releases more
   * than the bound would get new memory each time round.
   */
  #overflow() {
    if (native.isClosed(this.#attachment)) {
      this.empty()
    } else if (!this.#spillIsDue) {
      this.#spillIsDue = true
      setImmediate(() => {
        this.#spillIsDue = false
        this.#spill()
      }).unref()
    }
  }

  /** Brings every magazine, and all together, back under their bounds, by half. */
  #spill() {
    this.#fold()
    for (const magazine of this.#magazines) {
      if (magazine.depth > magazine.capacity) {
        this.#recall(magazine, magazine.depth - (magazine.capacity >> 1), false)
      }
    }
    if (this.#leased < this.#floor) {
      this.#recallBytes((this.#floor - this.#leased) * UNIT + RACK_BYTES / 2, false)
    }
  }

  /**
   * Recalls blocks, the largest first, until `bytes` of them are or none is left.
   *
   * @param {number} bytes
   * @param {boolean} condemn
   */
  #recallBytes(bytes, condemn) {
    let recalled = 0
    for (let i = this.#magazines.length - 1; i >= 0 && recalled < bytes; i--) {
      const magazine = this.#magazines[i]
      const wanted = Math.ceil((bytes - recalled) / magazine.blockSize)
      recalled += this.#recall(magazine, Math.min(wanted, magazine.depth), condemn)
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
    this.#fold()
    const excess = native.stats(this.#attachment).total.idleBytes - keepBytes
    if (excess <= 0) return 0
    const freed = native.trim(this.#attachment, excess)
    return freed + this.#recallBytes(excess - freed, true)
  }

  /** Ends leasing, in all threads; what is idle in this one is freed. */
  close() {
    native.close(this.#attachment)
    // Every release overflows from now on.
    this.#floor = Infinity
    this.empty()
  }

  /** Gives up everything idle in this thread. */
  empty() {
    for (const magazine of this.#magazines) this.#recall(magazine, magazine.depth, true)
  }

  /** Whether any thread has closed the pool. */
  get isClosed() {
    return native.isClosed(this.#attachment)
  }

  /** The books, all threads together. */
  stats() {
    return native.stats(this.#attachment)
  }

  /** @param {number} units more, or fewer, that are leased or idle here */
  #hold(units) {
    this.#held += units
    if (this.#floor !== Infinity) this.#floor = this.#held - RACK_BYTES / UNIT
  }

  /** Takes off what finalizers have taken back from the user since last time. */
  #fold() {
    const collected = this.#words[COLLECTED_BYTES]
    const units = (collected - this.#folded) / UNIT
    this.#folded = collected
    this.#leased -= units
    this.#hold(-units)
  }

  #raisePeak() {
    this.#fold()
    if (this.#leased <= this.#peak) return
    this.#peak = this.#leased
    this.#words[PEAK_BYTES] = this.#leased * UNIT
  }
}

/**
 * Overwrites the whole block with zeros: the user had all of it, through `buffer.buffer`.
 *
 * @param {Slot} slot
 */
function scrub(slot) {
  const arrayBuffer = /** @type {ArrayBuffer} */ (slot.arrayBuffer)
  if (arrayBuffer.byteLength > 0) new Uint8Array(arrayBuffer).fill(0)
}

module.exports = { Rack }
