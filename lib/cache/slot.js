'use strict'

/** A block in this thread's hands. It hangs on the ArrayBuffer that has the block. */

const { Buffer } = require('node:buffer')
const { LEASED, SAMPLED, STATE } = require('./thread-counters')
const native = require('../runtime/native')
const { byteLengthOf, closeOff } = require('../runtime/intrinsics')
const { hang } = require('./tag')

const { headColumns, segmentShift, columnsPerRow } = native.layout()
const ROW_MASK = 2 ** segmentShift - 1

/** Fits no lease, and saves the question whether there is a view. */
const NO_VIEW = Buffer.alloc(0)

class Slot {
  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool that hands it out
   * @param {import('./magazine').Magazine | null} magazine where it is kept when idle; `null`
   *   for memory that V8 owns
   * @param {ArrayBuffer} arrayBuffer
   * @param {Float64Array} words the segment of the counters with its row
   * @param {number} row
   */
  constructor(pool, magazine, arrayBuffer, words, row) {
    this.pool = pool
    this.magazine = magazine
    /**
     * The ArrayBuffer that has the block; `null` once the pool has let go of it. Another that
     * carries this slot is a stale one.
     *
     * @type {ArrayBuffer | null}
     */
    this.arrayBuffer = arrayBuffer
    /** Meaningless, and not to be written, once the block is detached: its row may have
     *  another holder. */
    this.words = words
    /** Where in `words` the row begins. */
    this.at = headColumns + (row & ROW_MASK) * columnsPerRow
    this.row = row
    /** How many leases there were, one under way included: to tell a lease from a later one. */
    this.generation = 0
    /**
     * Where one ArrayBuffer serves lease after lease, its view of the last length: a Buffer where users
     * get it.
     *
     * @type {any}
     */
    this.view = NO_VIEW
    /** That length; 0 without a Buffer. The Buffer's own word on it may be the user's. */
    this.size = 0
    /**
     * Where V8 has the memory, what tells the core that JavaScript has lost the ArrayBuffer.
     *
     * @type {object | null}
     */
    this.guard = null
    /**
     * The next next slot in a magazine.
     *
     * @type {Slot | null}
     */
    this.next = null
    hang(arrayBuffer, this)
  }

  /** The pool has nothing to do with the ArrayBuffer any more. */
  forget() {
    this.arrayBuffer = null
    this.guard = null
    this.view = NO_VIEW
    this.size = 0
  }
}

closeOff(Slot)

/**
 * Whether a slot's block is with the user now.
 *
 * @param {Slot} slot
 */
function isLeased(slot) {
  const state = slot.words[slot.at + STATE]
  if (state !== LEASED && state !== SAMPLED) return false
  // Empty is what was transferred.
  return slot.arrayBuffer !== null && byteLengthOf(slot.arrayBuffer) > 0
}

module.exports = { Slot, isLeased }
