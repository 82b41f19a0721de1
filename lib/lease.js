'use strict'

/** A Buffer together with its release. */

const { isLeased } = require('./slot')

class Lease {
  #buffer
  #slot
  #turn

  /**
   * @param {Buffer} buffer
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
    const slot = this.#slot
    if (slot.turn !== this.#turn || !isLeased(slot)) return
    slot.pool.release(/** @type {ArrayBuffer} */ (slot.arrayBuffer))
  }

  [Symbol.dispose]() {
    this.release()
  }
}

module.exports = { Lease }
