'use strict'

/** A buffer that grows, made of V8's Buffers: a program without a library writes it like this. */
class PlainBuffer {
  #allocate
  #bytes
  #length = 0

  /**
   * @param {(size: number) => Buffer} allocate
   * @param {number} [size] of the first Buffer
   */
  constructor(allocate, size = 0) {
    this.#allocate = allocate
    this.#bytes = allocate(size)
  }

  get length() {
    return this.#length
  }

  /** @param {Uint8Array} data */
  append(data) {
    const end = this.#length + data.length
    if (end > this.#bytes.length) this.#grow(end)
    this.#bytes.set(data, this.#length)
    this.#length = end
  }

  /** Empties it. It retains its Buffer, however large. */
  reset() {
    this.#length = 0
  }

  #grow(size) {
    const bytes = this.#allocate(Math.max(size, 2 * this.#bytes.length))
    bytes.set(this.#bytes.subarray(0, this.#length))
    this.#bytes = bytes
  }
}

module.exports = { PlainBuffer }
