'use strict'

/**
 * A block that this thread has, leased or idle. It hangs on the ArrayBuffer that has the block
 * (`tag.js`).
 *
 * `words` MUST be written only while the ArrayBuffer is attached: afterwards another block may have
 * the row.
 */

const { Buffer } = require('node:buffer')
const { LEASED, SAMPLED, STATE } = require('./thread-counters')
const native = require('../runtime/native')
const { byteLengthOf, closeOff } = require('../runtime/intrinsics')
const { hang } = require('./tag')

const { headColumns, segmentShift, columnsPerRow } = native.layout()
const ROW_MASK = 2 ** segmentShift - 1

/** Fits no lease, and saves a check whether there is a view. */
const NO_VIEW = Buffer.alloc(0)

class Slot {
  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool that leases it
   * @param {import('./magazine').Magazine | null} magazine that has it when idle; `null` for a
   *   lease that V8's memory serves
   * @param {ArrayBuffer} arrayBuffer
   * @param {Float64Array} words the segment of the counters with its row
   * @param {number} row
   */
  constructor(pool, magazine, arrayBuffer, words, row) {
    this.pool = pool
    this.magazine = magazine
    /**
     * The ArrayBuffer that has the block; `null` after the block has left. Any other ArrayBuffer
     * with this slot is stale.
     *
     * @type {ArrayBuffer | null}
     */
    this.arrayBuffer = arrayBuffer
    this.words = words
    /** The index in `words` at which the row begins. */
    this.at = headColumns + (row & ROW_MASK) * columnsPerRow
    this.row = row
    /** The number of leases so far, the current one included: it tells a lease from a later one. */
    this.generation = 0
    /**
     * The view of the last lease, if one ArrayBuffer serves lease after lease: a Buffer if users
     * get it.
     *
     * @type {any}
     */
    this.view = NO_VIEW
    /** Its length; 0 if it is no Buffer. User code can override `buffer.length`. */
    this.size = 0
    /**
     * An object that tells the core, when it is collected, that JavaScript has lost V8's memory.
     *
     * @type {object | null}
     */
    this.guard = null
    /**
     * The next slot in a magazine's stack, or in a list of cut ones.
     *
     * @type {Slot | null}
     */
    this.next = null
    hang(arrayBuffer, this)
  }

  /** Drops the ArrayBuffer: the pool has no more to do with it. */
  forget() {
    this.arrayBuffer = null
    this.guard = null
    this.view = NO_VIEW
    this.size = 0
  }
}

closeOff(Slot)

/**
 * Tells whether the user has a slot's block now.
 *
 * @param {Slot} slot
 */
function isLeased(slot) {
  const state = slot.words[slot.at + STATE]
  if (state !== LEASED && state !== SAMPLED) return false
  // A transferred ArrayBuffer is empty.
  return slot.arrayBuffer !== null && byteLengthOf(slot.arrayBuffer) > 0
}

module.exports = { Slot, isLeased }
