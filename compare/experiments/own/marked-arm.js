'use strict'

const { randomBytes } = require('node:crypto')
const { inspect } = require('node:util')

/** The bytes of the mark, too many to appear by chance. */
const MARK_BYTES = 16

/**
 * Checks the Buffers of an arm. It marks each that is given back, as its next owner would write to
 * it. A mark in a reply, or a mark that has vanished, shows a Buffer that was given back too early.
 */
class MarkedArm {
  /**
   * The workload's first error, in words that complete "the workload …".
   *
   * @type {string | undefined}
   */
  flaw
  taken = 0

  #arm
  #maxSize
  #mark = randomBytes(MARK_BYTES)
  /** @type {Set<Buffer>} */
  #out = new Set()
  /** The Buffers that carry the mark. @type {Set<Buffer>} */
  #marked = new Set()
  #given = new WeakSet()

  /**
   * @param {import('../../arms').OpenArm} arm
   * @param {number} maxSize
   */
  constructor(arm, maxSize) {
    this.#arm = arm
    this.#maxSize = maxSize
  }

  /** Returns how many Buffers were not given back. */
  get held() {
    return this.#out.size
  }

  take(size) {
    if (!Number.isInteger(size) || size < 0) {
      this.#refuse(`takes ${inspect(size)} bytes, which is no whole number from 0`)
    }
    if (size > this.#maxSize) {
      this.#refuse(`takes ${size} bytes, and its maxSize is ${this.#maxSize}`)
    }
    const buffer = this.#arm.take(size)
    this.taken++
    this.look()
    for (const other of this.#marked) if (overlaps(buffer, other)) this.#marked.delete(other)
    this.#given.delete(buffer)
    this.#out.add(buffer)
    return buffer
  }

  give(view) {
    if (!ArrayBuffer.isView(view)) this.#refuse(`gives back ${inspect(view)}, which is no Buffer`)
    const buffer = this.#out.has(view) ? view : [...this.#out].find((one) => overlaps(view, one))
    if (buffer === undefined) {
      const what = this.#given.has(view) ? 'a Buffer twice' : 'a Buffer that it did not take'
      this.#refuse(`gives back ${what}`)
    }
    this.#out.delete(buffer)
    this.#given.add(buffer).add(view)
    buffer.fill(this.#mark)
    this.#marked.add(buffer)
    this.#arm.give(buffer)
  }

  close() {
    this.#arm.close()
  }

  /** Checks whether the workload has written to Buffers that it gave back. */
  look() {
    for (const buffer of this.#marked) {
      // The pool's release has detached this Buffer from its memory.
      if (buffer.length === 0) this.#marked.delete(buffer)
      else if (!buffer.equals(Buffer.alloc(buffer.length, this.#mark))) {
        this.flaw ??= 'writes to a Buffer that it has given back'
        this.#marked.delete(buffer)
      }
    }
  }

  /** Returns whether a reply holds bytes of a Buffer that was given back. @param {Buffer} body */
  hasMark(body) {
    return body.includes(this.#mark)
  }

  #refuse(flaw) {
    this.flaw ??= flaw
    throw new Error(`The workload ${flaw}.`)
  }
}

/**
 * Returns whether two views share memory.
 *
 * @param {ArrayBufferView} one
 * @param {ArrayBufferView} other
 */
function overlaps(one, other) {
  return (
    one.buffer === other.buffer &&
    one.byteOffset < other.byteOffset + other.byteLength &&
    other.byteOffset < one.byteOffset + one.byteLength
  )
}

module.exports = { MarkedArm }
