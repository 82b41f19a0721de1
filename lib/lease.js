'use strict'

/** A Buffer together with its release. */

const { custom, draw } = require('./inspect')
const { arrayBufferOf } = require('./runtime')
const { isLeased } = require('./slot')
const { slotOf } = require('./tag')

class Lease {
  #buffer
  #turn

  /**
   * @param {Buffer} buffer of any length
   * @param {import('./slot').Slot} slot the buffer's, leased
   */
  constructor(buffer, slot) {
    this.#buffer = buffer
    this.#turn = slot.turn
  }

  /** Asked anew each time: to keep it would keep the block's next owner from the garbage collector. */
  get #slot() {
    return /** @type {import('./slot').Slot} */ (slotOf(arrayBufferOf(this.#buffer)))
  }

  /** The Buffer, of exactly the length that was asked for. */
  get buffer() {
    return this.#buffer
  }

  /** Gives the block back; does nothing where it is back already, by whatever view. */
  release() {
    if (Lease.isOver(this)) return
    const slot = this.#slot
    slot.pool.release(/** @type {ArrayBuffer} */ (slot.arrayBuffer))
  }

  /**
   * Whether the block is back, or moved elsewhere.
   *
   * @param {Lease} lease
   */
  static isOver(lease) {
    const slot = lease.#slot
    return slot.turn !== lease.#turn || !isLeased(slot)
  }

  [Symbol.dispose]() {
    this.release()
  }

  /**
   * @param {number} depth
   * @param {import('./inspect').Options} options
   * @param {import('./inspect').Inspect} inspect
   */
  [custom](depth, options, inspect) {
    if (!(#buffer in this)) return this
    return draw('Lease', () => ({ buffer: this.#buffer }), depth, options, inspect)
  }
}

module.exports = { Lease }
