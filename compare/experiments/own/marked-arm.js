'use strict'

const { randomBytes } = require('node:crypto')
const { inspect } = require('node:util')

/** Bytes of the mark. Chance brings them nowhere. */
const MARK_BYTES = 16

/**
 * An arm whose Buffers are looked after: each is marked when it is given back, as its next owner would write to it. A
 * mark in a reply, or one that is gone, shows a Buffer that was given back too early.
 */
class MarkedArm {
  /** What the workload did wrong first, in words that complete "the workload …". @type {string | undefined} */
  flaw
  taken = 0

  #arm
  #maxSize
  #mark = randomBytes(MARK_BYTES)
  /** @type {Set<Buffer>} */
  #out = new Set()
  /** Those that carry the mark. @type {Set<Buffer>} */
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

  /** How many were not given back. */
  get kept() {
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

  /** Looks whether anyone has written to what was given back. */
  look() {
    for (const buffer of this.#marked) {
      // A pool's own release has taken the memory out of this one.
      if (buffer.length === 0) this.#marked.delete(buffer)
      else if (!buffer.equals(Buffer.alloc(buffer.length, this.#mark))) {
        this.flaw ??= 'writes to a Buffer that it has given back'
        this.#marked.delete(buffer)
      }
    }
  }

  /** Whether what was sent holds bytes of a Buffer that was given back. @param {Buffer} body */
  hasMark(body) {
    return body.includes(this.#mark)
  }

  #refuse(flaw) {
    this.flaw ??= flaw
    throw new Error(`The workload ${flaw}.`)
  }
}

/** Whether two views share memory. @param {ArrayBufferView} one @param {ArrayBufferView} other */
function overlaps(one, other) {
  return (
    one.buffer === other.buffer &&
    one.byteOffset < other.byteOffset + other.byteLength &&
    other.byteOffset < one.byteOffset + one.byteLength
  )
}

module.exports = { MarkedArm }
