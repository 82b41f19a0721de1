'use strict'

/**
 * One thread's cache of blocks for one pool, and the ways that a block takes through it:
 *
 *   lease:    depot ── Filler ──▶ magazine ── take, book ──▶ Buffer
 *   release:                      magazine ◀─── putBack ──── Buffer
 *   flush:    depot ◀─ Flusher ── magazine
 *   detach:   depot ◀──────────── endByDetaching ─────────── Buffer
 *
 * - A slot MUST be in a magazine, or leased, and never both.
 * - A state MUST be written only while the slot's ArrayBuffer is attached.
 * - An ArrayBuffer MUST leave by being detached or dropped, and in no other way. The core takes its
 *   block back when the backing store is gone, and not before, because native code may still hold
 *   it.
 * - `book` and `putBack` MUST stay small: V8 compiles them into their callers
 *   (`__test__/cache/thread-cache.test.js`).
 *
 * Collaborators: this class makes them all, and each knows only those above it:
 *
 *   ThreadUsage      what is leased and idle, and which releases matter (this class extends it)
 *   Sampler          the call sites of sampled leases
 *   Segments         the arrays of the thread's counters
 *   LeasedElsewhere  whether others can end a wait
 *   FreedBytes       what is to be published about freed memory
 *   Flusher          moves idle blocks out of the magazines
 *   Waiting          the requests that wait
 *   Trimmer          decides which idle blocks leave
 *   WakeHandler      does what the core asks
 *   Filler           fills empty magazines
 *
 * `detach.js` and `reuse.js` are the two ways of release, of which a pool has one.
 */

const { Calibration } = require('../pool/calibration')
const { Lease, bufferOf } = require('../pool/lease')
const { readStats } = require('../pool/stats')
const native = require('../runtime/native')
const {
  Bytes,
  Floats,
  arrayBufferOf,
  bufferOver,
  byteLengthOf,
  isExternal,
  zero,
  zeroFill,
  zeroWhole
} = require('../runtime/intrinsics')
const detach = require('./detach')
const { detachSlot } = require('./detach-slot')
const { Filler } = require('./filler')
const { Flusher } = require('./flusher')
const { FreedBytes } = require('./freed-bytes')
const { LeasedElsewhere } = require('./leased-elsewhere')
const reuse = require('./reuse')
const { Sampler } = require('./sampler')
const { Segments } = require('./segments')
const { classOf } = require('./size-class')
const { Slot, isLeased } = require('./slot')
const { Fate } = require('./states')
const { slotOf } = require('./tag')
const {
  ASKED_BYTES,
  IDLE,
  LEASED,
  LEASES,
  RELEASES,
  SAMPLE,
  SAMPLED,
  STATE
} = require('./thread-counters')
const { ThreadUsage } = require('./thread-usage')
const { Trimmer } = require('./trimmer')
const { WakeHandler } = require('./wake-handler')
const { Waiting } = require('./waiting')

/** @typedef {import('./magazine').Magazine} Magazine */

class ThreadCache extends ThreadUsage {
  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {import('../runtime/native').Attachment} attachment
   */
  constructor(pool, attachment) {
    const settings = native.settings(attachment)
    super(attachment, settings)
    this.pool = pool
    /** Requests above this many bytes are not served from blocks. */
    this.largest = settings.maxBlockSize
    /** True if the synchronous calls throw at the ceiling. */
    this.throwsWhenExhausted = settings.throwsWhenExhausted
    /** True if a release overwrites the block with zeros. */
    this.scrubs = settings.zeroOnRelease
    this.detaches = settings.detachOnRelease
    this.way = this.detaches ? detach : reuse
    /** The slot of each ArrayBuffer whose memory has moved on. */
    this.gone = new Slot(pool, null, new ArrayBuffer(0), new Floats(0), 0)
    this.gone.forget()
    /** @type {Calibration | undefined} */
    this.calibrated = undefined
    /**
     * True while a waiting request is served: then the call site on the stack is not the user's.
     */
    this.isGranting = false
    this.sampler = new Sampler(settings.name, settings.leakSampleRate)
    this.segments = new Segments(this, this.sampler)
    this.elsewhere = new LeasedElsewhere(this, this.segments)
    this.freed = new FreedBytes(settings.name)
    this.flusher = new Flusher(this, this.freed, () => this.afterSlice())
    this.waiting = new Waiting(this, this.elsewhere, (waiter, lent) =>
      this.leaseGranted(waiter, lent)
    )
    this.trimmer = new Trimmer(this, this.segments, this.flusher, this.freed, this.waiting)
    this.wakes = new WakeHandler(this, this)
    this.filler = new Filler(pool, this, this)
  }

  /** The sizes that the pool has learned from its growable buffers. */
  get calibration() {
    this.calibrated ??= new Calibration()
    return this.calibrated
  }

  /**
   * Counts a slot as leased. It is small enough for V8 to compile it into its callers.
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
   * Puts a leased slot into its magazine. It is small enough for V8 to compile it into its callers.
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
    const above = leased - this.uncheckedFrom
    if (above < 0 || above > this.uncheckedSpan) this.checkRelease(leased)
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
   * Checks a release. It checks each release while a request waits or the core sends no ticks.
   * Otherwise it checks only a release that leaves too much idle or shows a peak.
   *
   * @param {number} leased units, before the release
   */
  checkRelease(leased) {
    if (leased > this.peak) this.raisePeak(leased)
    if (this.checksEachRelease || leased < this.uncheckedFrom) this.trimmer.afterRelease(leased)
  }

  /**
   * Fetches blocks into an empty magazine.
   *
   * @param {Magazine} magazine
   * @returns {boolean} false if it is still empty
   */
  fill(magazine) {
    return this.filler.fill(magazine)
  }

  /**
   * Leases a block as the pool's way of release needs it; returns `undefined` at the ceiling, or if
   * the pool is closed.
   *
   * @param {number} size whole, from 1 to the largest block size
   * @returns {Buffer | undefined}
   */
  leaseBuffer(size) {
    const buffer = this.way.lease(this, size)
    return buffer !== undefined && zeroFill ? zeroWhole(buffer) : buffer
  }

  /**
   * Leases a block by its slot; returns `undefined` at the ceiling, or if the pool is closed. No
   * other code sees the Buffer before its holder.
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
    // Node's flag also applies to this library's own leases, so this function fills them and not
    // its callers.
    if (zeroFill) zero(arrayBuffer)
    const buffer = bufferOver(arrayBuffer, size)
    if (this.way === reuse) {
      slot.view = buffer
      slot.size = size
    }
    this.book(magazine, slot, size)
    return new Lease(buffer, slot)
  }

  /**
   * Leases the larger block that the last fill has found, if any.
   *
   * @param {number} size
   */
  leaseLarger(size) {
    const larger = this.filler.takeLarger(size)
    return larger && this.leaseFrom(larger, size)
  }

  /**
   * Leases a block for this library's own use, and returns a view of all of it; `undefined` at the
   * ceiling, or if the pool is closed. If no other code ever sees the view, its memory need not
   * move at release.
   *
   * @param {number} size whole, from 0 up
   * @returns {Uint8Array | undefined}
   */
  leaseWhole(size) {
    if (size === 0 || size > this.largest) return undefined
    const magazine = this.magazines[classOf(size)]
    const { blockSize } = magazine
    if (this.way === reuse) return this.leaseBuffer(blockSize)
    const slot = magazine.take()
    if (slot === undefined) return this.fill(magazine) ? this.leaseWhole(size) : undefined
    if (zeroFill) zero(/** @type {ArrayBuffer} */ (slot.arrayBuffer))
    if (slot.size !== blockSize || slot.view[0] === undefined) {
      // This makes no Buffer: other code can replace its class, and would see the ArrayBuffer.
      slot.view = new Bytes(/** @type {ArrayBuffer} */ (slot.arrayBuffer), 0, blockSize)
      slot.size = blockSize
    }
    this.book(magazine, slot, blockSize)
    return slot.view
  }

  /**
   * Drops the slots on top of a magazine whose memory someone has transferred through a stale view;
   * the first of them has been taken already. Their finalizers return the blocks. It loops because
   * there may be too many for a recursion.
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
   * Leases a block, unless the pool is at its ceiling, or a request waits.
   *
   * @param {number} size
   */
  tryLease(size) {
    if (!native.nobodyWaits(this.attachment)) return undefined
    const lease = this.lease(size)
    this.filler.isRefused = false
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
    this.wakes.listen()
    const stack = this.sampler.isDue() ? this.sampler.take(this.wait) : undefined
    const magazine = this.magazineOf(classOf(size))
    const ticket = this.waiting.wait({ magazine, size, stack, onLease, onError })
    this.trimmer.giveUpForOthers()
    return ticket
  }

  /**
   * Leases the block that a waiting request was granted.
   *
   * @param {import('./waiting').Waiter} waiter
   * @param {import('../runtime/native').Lent} lent
   */
  leaseGranted({ magazine, size, stack }, lent) {
    this.filler.addSlot(magazine, lent)
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
   * Records the call site of a lease.
   *
   * @param {Slot} slot just leased
   * @param {number} size
   */
  sample(slot, size) {
    const { words, at } = slot
    this.sampler.countDown(words)
    if (this.isGranting) return
    // The slot is not sampled yet: a user's formatter of stacks may run now, and must not release
    // by a stale view a lease that its caller has not received.
    words[at + SAMPLE] = 0
    words[at + STATE] = SAMPLED
    const stack = this.sampler.take(this.book)
    // The formatter may have moved the memory elsewhere.
    if (!isLeased(slot)) return
    if (stack) this.sampler.record(slot, size, stack)
    else words[at + STATE] = LEASED
  }

  /**
   * Takes a leased block back on a runtime that can't move memory: Node 20 without the addon's
   * help. It detaches the ArrayBuffer, after which the block goes to the depot.
   *
   * @param {Slot} slot
   * @param {Magazine} magazine the slot's
   * @returns {boolean} false if it can't be detached
   */
  giveBackByFinalizer(slot, magazine) {
    const fate = this.isClosed || this.storesNothing ? Fate.FREE : Fate.STORE
    return this.endByDetaching(slot, magazine, fate)
  }

  /**
   * Ends a lease and discards its block: the user does not want the pool to store it.
   *
   * @param {Slot} slot
   * @returns {boolean} false if its ArrayBuffer can't be detached
   */
  discard(slot) {
    if (!isLeased(slot)) return false
    this.sampler.drop(slot)
    return this.endByDetaching(slot, /** @type {Magazine} */ (slot.magazine), Fate.DISCARD)
  }

  /**
   * Ends a lease by detaching its ArrayBuffer.
   *
   * @param {Slot} slot leased
   * @param {Magazine} magazine the slot's
   * @param {number} fate of the block, a `Fate`
   * @returns {boolean} false if it can't be detached
   */
  endByDetaching(slot, magazine, fate) {
    // V8 would give its memory to the next user as it is. The core overwrites its own blocks.
    if (this.scrubs && !isExternal) zero(/** @type {ArrayBuffer} */ (slot.arrayBuffer))
    // This comes first, because the segment may go with the block.
    slot.words[RELEASES]++
    if (!detachSlot(this.attachment, slot, magazine, fate)) {
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

  /** Does the rest of a turn in which the flusher has taken a slice. */
  afterSlice() {
    if (this.othersWait) this.waiting.collect()
    this.segments.forgetGone()
  }

  /**
   * Closes the pool in all threads, frees what is idle in this one, and rejects its waiting
   * requests.
   */
  close() {
    native.close(this.attachment)
    this.setChecks(true)
    this.flusher.freeAll()
    this.waiting.collect()
  }

  /** Returns the statistics of all threads together. */
  stats() {
    this.raisePeak(this.leased)
    return readStats(this)
  }

  /** Returns the holders of this thread's sampled leases. */
  holders() {
    this.sampler.takeReports(this.attachment)
    return this.sampler.holders()
  }
}

module.exports = { ThreadCache }
