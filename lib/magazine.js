/**
 * The idle blocks of one size class in one thread: a stack of live ArrayBuffers.
 *
 * The idea, and the name, are Bonwick's: "Magazines and Vmem" (USENIX 2001).
 */

/** The most blocks that one magazine keeps from one turn of the event loop to the next. */
const MAGAZINE_BLOCKS = 256

/** The most bytes that one magazine keeps from one turn to the next. */
const MAGAZINE_BYTES = 32 * 1024 * 1024

/** The most blocks that are fetched from the depot at a time: beyond, only the call is saved. */
const FILL_BLOCKS = 8

/** The most bytes that are fetched at a time: another thread may need them more. */
const FILL_BYTES = 256 * 1024

/** Bytes in one unit of account: every block size is a multiple. Keeps sums small integers. */
const UNIT = 64

class Magazine {
  /**
   * @param {number} index of the size class
   * @param {number} blockSize in bytes
   * @param {Float64Array} words the class's counters in the ledger
   */
  constructor(index, blockSize, words) {
    this.index = index
    this.blockSize = blockSize
    this.words = words
    /** The block size in units. */
    this.units = blockSize / UNIT
    /** The most blocks that it keeps from one turn to the next. */
    this.capacity = Math.max(1, Math.min(MAGAZINE_BLOCKS, Math.floor(MAGAZINE_BYTES / blockSize)))
    /** How many blocks are fetched at a time. */
    this.batch = Math.max(1, Math.min(FILL_BLOCKS, Math.floor(FILL_BYTES / blockSize)))
    /**
     * The coldest first. Above `depth` there is nothing but `null`: a slot that is leased must
     * not be held here, or the garbage collector could never find it dropped.
     *
     * @type {(import('./slot').Slot | null)[]}
     */
    this.slots = []
    this.depth = 0
  }

  /** Takes the warmest slot out of a magazine that is not empty. */
  take() {
    const depth = this.depth - 1
    const slot = /** @type {import('./slot').Slot} */ (this.slots[depth])
    this.slots[depth] = null
    this.depth = depth
    return slot
  }

  /**
   * Takes the `count` coldest slots out.
   *
   * @param {number} count at most `depth`
   */
  takeColdest(count) {
    const taken = /** @type {import('./slot').Slot[]} */ (this.slots.splice(0, count))
    this.depth -= count
    return taken
  }
}

module.exports = { Magazine, UNIT }
