'use strict'

/**
 * A block in this thread's hands.
 *
 * A slot hangs on the ArrayBuffer that has its block, out of reach of any other code; a Buffer
 * itself carries nothing, so that it has the V8 map of every other Buffer.
 */

/** The states of a block, as `src/pool/ledger.rs` numbers them. */
const IDLE = 0
const LEASED = 1

class Slot {
  /**
   * @param {object} pool the BufferPool that hands it out
   * @param {import('./magazine').Magazine | null} magazine where it is kept when idle; `null`
   *   for memory that V8 owns
   * @param {ArrayBuffer} arrayBuffer
   * @param {Uint8Array} states
   * @param {number} seat
   */
  constructor(pool, magazine, arrayBuffer, states, seat) {
    this.pool = pool
    this.magazine = magazine
    /**
     * The ArrayBuffer that has the block; `null` once the pool has let go of it. Another that
     * carries this slot is a stale one.
     *
     * @type {ArrayBuffer | null}
     */
    this.arrayBuffer = arrayBuffer
    /** The segment of the ledger with this block's state. Meaningless for a detached block. */
    this.states = states
    /** Where in `states`. */
    this.at = seat % states.length
    this.seat = seat
    /**
     * Where one ArrayBuffer serves lease after lease, its Buffer of the last length.
     *
     * @type {Buffer | null}
     */
    this.view = null
    /** Counts leases, so that a `Lease` can tell its own from a later one. */
    this.turn = 0
    hang(arrayBuffer, this)
  }
}

/** Constructs to the object it is given. */
class Onto {
  /** @param {object} target */
  constructor(target) {
    // biome-ignore lint/correctness/noConstructorReturn: a subclass's private field lands on it
    return target
  }
}

/**
 * Puts a private field on a foreign object: no code outside can see, copy or change it, and to
 * read it costs what reading any property does.
 */
class Tag extends Onto {
  /** @type {Slot} */
  #slot

  /**
   * @param {ArrayBuffer} arrayBuffer
   * @param {Slot} slot
   */
  constructor(arrayBuffer, slot) {
    super(arrayBuffer)
    this.#slot = slot
  }

  /** @param {object} arrayBuffer */
  static read(arrayBuffer) {
    return #slot in arrayBuffer ? arrayBuffer.#slot : undefined
  }
}

/**
 * Hangs a slot on an ArrayBuffer that carries none.
 *
 * @param {ArrayBuffer} arrayBuffer
 * @param {Slot} slot
 */
function hang(arrayBuffer, slot) {
  new Tag(arrayBuffer, slot)
}

/**
 * The slot that hangs on an object; `undefined` where none does.
 *
 * @param {object} arrayBuffer
 */
const slotOf = Tag.read

module.exports = { IDLE, LEASED, Slot, hang, slotOf }
