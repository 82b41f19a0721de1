'use strict'

/** A Buffer together with its release. */

class Lease {
  #buffer
  /** @type {(() => void) | undefined} */
  #release

  /**
   * @param {Buffer} buffer
   * @param {() => void} release gives this very lease back, if it is not back yet
   */
  constructor(buffer, release) {
    this.#buffer = buffer
    this.#release = release
  }

  /** The Buffer, of exactly the length that was asked for. */
  get buffer() {
    return this.#buffer
  }

  /** Gives the block back. A second time, or after `pool.release`, it does nothing. */
  release() {
    const release = this.#release
    this.#release = undefined
    release?.()
  }

  [Symbol.dispose]() {
    this.release()
  }
}

module.exports = { Lease }
