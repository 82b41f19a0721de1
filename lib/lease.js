'use strict'

/** A Buffer together with its release. */

const { isLeased } = require('./slot')

class Lease {
  #buffer
  #slot
  #turn

  /**
   * @param {Buffer} buffer of any length
   * @param {import('./slot').Slot} slot the buffer's, leased
   */
  constructor(buffer, slot) {
    this.#buffer = buffer
    this.#slot = slot
    this.#turn = slot.turn
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
    return lease.#slot.turn !== lease.#turn || !isLeased(lease.#slot)
  }

  [Symbol.dispose]() {
    this.release()
  }
}

module.exports = { Lease }
