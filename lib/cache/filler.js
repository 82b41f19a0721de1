'use strict'

/**
 * Fills an empty magazine. In this order it tries:
 *
 *   1. idle blocks of the class, from the depot: a batch;
 *   2. where much is idle already: one larger idle block, of this thread or of the depot, which
 *      `takeLarger` hands out;
 *   3. a fresh block under the ceiling;
 *   4. a fresh block for which idle ones of other classes are freed.
 *
 * - A block that the core has lent MUST get a slot in a magazine, or go back to the core before the
 *   error is thrown.
 * - A fill MUST NOT take a block while another request waits: the core refuses, and step 2 asks for
 *   that itself.
 *
 * Collaborators: `ThreadUsage`, `Segments`, `LeasedElsewhere` (each new slot), `Flusher` and
 * `Trimmer` (idle blocks that leave), `WakeHandler`, the core (`runtime/native`).
 */

const native = require('../runtime/native')
const {
  allocUnsafeSlow,
  arrayBufferOf,
  closeOff,
  isExternal,
  transfer
} = require('../runtime/intrinsics')
const { OutOfMemory } = require('../pool/errors')
const { UNIT } = require('./magazine')
const { blockSizes } = require('./size-class')
const { Slot } = require('./slot')
const { Fate } = require('./states')
const {
  LAST_IS_FRESH,
  LAST_ROW,
  MISSES,
  RECENT_PEAK_BYTES,
  SURPLUS_BYTES
} = require('./thread-counters')

const { idleAllowance } = native.layout()

const CLASSES = blockSizes.length
const { max, min } = Math

/**
 * The most classes that a larger block may be above the request's: it is at most twice as large.
 */
const MOST_LARGER = 4

/** @typedef {import('./magazine').Magazine} Magazine */

class Filler {
  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {import('./thread-usage').ThreadUsage} usage
   * @param {object} collaborators
   * @param {import('./segments').Segments} collaborators.segments
   * @param {import('./leased-elsewhere').LeasedElsewhere} collaborators.elsewhere
   * @param {import('./flusher').Flusher} collaborators.flusher
   * @param {import('./trimmer').Trimmer} collaborators.trimmer
   * @param {import('./wake-handler').WakeHandler} collaborators.wakes
   */
  constructor(pool, usage, { segments, elsewhere, flusher, trimmer, wakes }) {
    this.pool = pool
    this.usage = usage
    this.segments = segments
    this.elsewhere = elsewhere
    this.flusher = flusher
    this.trimmer = trimmer
    this.wakes = wakes
    /** True if the last fill got nothing. */
    this.isRefused = false
    /**
     * The magazine with the larger block that the last fill has found.
     *
     * @type {Magazine | undefined}
     */
    this.larger = undefined
  }

  /**
   * Fetches blocks into an empty magazine.
   *
   * @param {Magazine} empty perhaps the one that all pools share
   * @returns {boolean} false if the magazine is still empty: at the ceiling, in a closed pool, or
   *   where a larger block is to serve
   */
  fill({ index }) {
    const { usage } = this
    const magazine = usage.magazineOf(index)
    usage.raisePeak(usage.leased)
    this.fetchBatch(magazine)
    if (magazine.count === 0 && !this.findLarger(index)) this.fetchFresh(magazine)
    const { count } = magazine
    // The other blocks of the batch may stay idle here, and no release would free them.
    if (count > 1 && !usage.isWatched) this.trimmer.watch()
    this.isRefused = count === 0
    return count > 0
  }

  /** @param {Magazine} magazine */
  fetchBatch(magazine) {
    for (let i = 0; i < magazine.batch; i++) {
      const lent = native.lendIdle(this.usage.attachment, magazine.index)
      if (lent === null) return
      this.addSlot(magazine, lent)
    }
  }

  /**
   * Looks for an idle block that is larger than needed, where more is idle than in proportion to
   * the recent peak: another fresh block would add to that.
   *
   * @param {number} index of the class that has none
   * @returns {boolean} whether `takeLarger` has one
   */
  findLarger(index) {
    const { usage } = this
    this.larger = undefined
    if (usage.storesAll) return false
    const idle = (usage.held - usage.leased) * UNIT + native.depotBytes(usage.attachment)
    if (idle <= max(idleAllowance, usage.words[RECENT_PEAK_BYTES] / 2)) return false
    // Waiting requests have priority.
    if (usage.isClosed || !native.nobodyWaits(usage.attachment)) return false
    const last = min(index + MOST_LARGER, CLASSES - 1)
    for (let i = index + 1; i <= last; i++) {
      if (usage.magazines[i].count === 0) {
        const lent = native.lendIdle(usage.attachment, i)
        if (lent === null) continue
        this.addSlot(usage.magazineOf(i), lent)
      }
      this.larger = usage.magazines[i]
      return true
    }
    return false
  }

  /**
   * Returns the magazine with the larger block that the last fill has found, and forgets it.
   *
   * @param {number} size that the block must hold
   * @returns {Magazine | undefined}
   */
  takeLarger(size) {
    const { larger } = this
    this.larger = undefined
    if (larger === undefined || larger.blockSize < size) return undefined
    this.isRefused = false
    return larger
  }

  /** Returns whether the last fill got nothing, and resets that. */
  takeRefusal() {
    const { isRefused } = this
    this.isRefused = false
    return isRefused
  }

  /**
   * Fetches one fresh block, and frees idle ones if the pool then holds too many.
   *
   * @param {Magazine} magazine
   */
  fetchFresh(magazine) {
    const { attachment, words } = this.usage
    const lent = native.lendFresh(attachment, magazine.index)
    const block = typeof lent === 'number' ? this.makeRoom(magazine, lent) : lent
    if (block === null) return
    this.addSlot(magazine, block)
    const surplus = words[SURPLUS_BYTES]
    if (surplus > 0) this.flusher.freeLeastNeeded(surplus, magazine)
  }

  /**
   * Frees idle blocks of other classes for a fresh one. If they are not enough, it asks other
   * threads to give up theirs, for the next time.
   *
   * @param {Magazine} magazine
   * @param {number} shortage in bytes
   * @returns {import('../runtime/native').Lent | null} `null` if they are not enough
   */
  makeRoom(magazine, shortage) {
    const { attachment } = this.usage
    let missing = shortage
    if (this.flusher.flush(shortage, Fate.FREE, undefined, Infinity) > 0) {
      const lent = native.lendFresh(attachment, magazine.index)
      if (typeof lent !== 'number') return lent
      missing = lent
    }
    native.ask(attachment, missing)
    return null
  }

  /**
   * Puts the block that the core lent last into a magazine.
   *
   * @param {Magazine} magazine
   * @param {import('../runtime/native').Lent} lent
   */
  addSlot(magazine, lent) {
    const { words: counters } = this.usage
    const row = counters[LAST_ROW]
    const arrayBuffer = isExternal ? moved(lent) : this.allocate(magazine, row)
    const words = this.wordsFor(magazine, row, arrayBuffer)
    const slot = new Slot(this.pool, magazine, arrayBuffer, words, row)
    // The slot's first lease follows at once.
    words[MISSES] += counters[LAST_IS_FRESH]
    // The guard goes with the slot, and tells the core when that is collected.
    if (!isExternal) slot.guard = lent
    // Memory of V8 no longer belongs to the pool once it is posted.
    if (isExternal) this.elsewhere.know(slot)
    magazine.push(slot)
    this.usage.hold(magazine.units)
    this.wakes.listen()
  }

  /**
   * Gets memory of V8's for a block, on a runtime that allows no other.
   *
   * @param {Magazine} magazine
   * @param {number} row
   */
  allocate({ blockSize }, row) {
    try {
      const arrayBuffer = /** @type {ArrayBuffer} */ (arrayBufferOf(allocUnsafeSlow(blockSize)))
      // Other code can replace the class of Buffers, and could then see this ArrayBuffer.
      return moved(arrayBuffer)
    } catch {
      native.withdraw(this.usage.attachment, row)
      throw new OutOfMemory(blockSize)
    }
  }

  /**
   * Returns the array of a row's segment. If there is no memory for the array, the block goes back
   * to the core: no other code has seen it.
   *
   * @param {Magazine} magazine
   * @param {number} row
   * @param {ArrayBuffer} arrayBuffer of the block that has the row
   */
  wordsFor(magazine, row, arrayBuffer) {
    try {
      return this.segments.wordsOf(row)
    } catch (error) {
      const { attachment } = this.usage
      if (isExternal) native.detach(attachment, arrayBuffer, row, magazine.index, Fate.STORE)
      else native.withdraw(attachment, row)
      throw error
    }
  }
}

closeOff(Filler)

/**
 * Moves the memory of an ArrayBuffer that Node made to one that Node did not make. Node watches its
 * own: it refuses to post it, and aborts at the end of the thread if the user has marked it as
 * untransferable. So nobody ever sees it.
 *
 * @param {ArrayBuffer} made
 */
function moved(made) {
  return transfer === undefined ? made : transfer(made)
}

module.exports = { Filler }
