'use strict'

/**
 * A buffer that grows: Go's bytebufferpool, for JavaScript.
 *
 * Nobody but this object knows its ArrayBuffer until `view()` shows it. So where it was never shown, its
 * release need not move the memory to be safe.
 */

const { Buffer } = require('node:buffer')
const { addEntries } = require('../cache/call-site')
const errors = require('./errors')
const { custom, draw } = require('./inspect')
const { giveBack: giveBackToReuse } = require('../cache/reuse')
const { releaseBlock } = require('./lease')
const { leaseRefused } = require('./slow-lease')
const {
  Bytes,
  bufferOver,
  allocUnsafeSlow,
  arrayBufferOf,
  fixedViewOf,
  isUint8Array,
  lengthOf,
  setBytes
} = require('../runtime/intrinsics')
const { isLeased } = require('../cache/slot')
const { slotOf } = require('../cache/tag')

const { byteLength } = Buffer
const { max } = Math

/** The most bytes that a UTF-16 unit becomes in any encoding: in UTF-8. */
const LONGEST_UNIT = 3

const NO_BYTES = Buffer.alloc(0)

/**
 * Admits to the constructor, which every ByteBuffer shows: one with a thread cache of other code's would tell that of slots.
 */
const KEY = Symbol('ByteBuffer')

/**
 * A growable buffer on the blocks of a pool.
 *
 * @param {import('../cache/thread-cache').ThreadCache} cache
 * @param {number} size of the first block, at least, in bytes
 * @param {number} [hint] the same, where its user has said so
 */
function byteBufferOn(cache, size, hint = 0) {
  return new ByteBuffer(KEY, cache, size, hint)
}

class ByteBuffer {
  #cache
  /** How many bytes its user expects, or 0. */
  #hint
  /**
   * What hangs on the block, while nobody else can release that: to keep it longer would keep the block's
   * next owner from the garbage collector.
   *
   * @type {import('../cache/slot').Slot | null}
   */
  #ownSlot = null
  /** Which lease of the block this is. */
  #generation = 0
  /**
   * All of the block.
   *
   * @type {Uint8Array}
   */
  #bytes = NO_BYTES
  #length = 0
  /** Whether anyone else may have a way to the ArrayBuffer. */
  #isShown = false

  /**
   * @param {symbol} key `KEY`
   * @param {import('../cache/thread-cache').ThreadCache} cache
   * @param {number} size of the first block, at least, in bytes
   * @param {number} hint the same, where its user has said so; else 0
   */
  constructor(key, cache, size, hint) {
    if (key !== KEY) throw new errors.IllegalConstructor()
    this.#cache = cache
    this.#hint = hint
    this.#own(this.#lease(size))
  }

  /** What hangs on the block; `null` once it is released. */
  get #slot() {
    return this.#isShown ? (slotOf(arrayBufferOf(this.#bytes)) ?? null) : this.#ownSlot
  }

  get length() {
    this.#check()
    return this.#length
  }

  get capacity() {
    this.#check()
    return lengthOf(this.#bytes)
  }

  /**
   * @param {string | Uint8Array} data
   * @param {BufferEncoding} [encoding]
   */
  append(data, encoding) {
    this.#check()
    if (typeof data === 'string') {
      this.#appendString(data, encoding)
      return this
    }
    if (!isUint8Array(data)) {
      throw new errors.InvalidArgType('data', 'a string or an instance of Uint8Array', data)
    }
    // Its memory may grow at any moment, by another thread.
    const added = fixedViewOf(data)
    const length = lengthOf(added)
    while (length > this.#room) {
      if (this.#grow(length, added)) return this
    }
    checkLength(added, length)
    setBytes(this.#bytes, added, this.#length)
    this.#length += length
    return this
  }

  view() {
    this.#check()
    this.#show()
    return bufferOver(arrayBufferOf(this.#bytes), this.#length)
  }

  toBuffer() {
    this.#check()
    const copy = allocUnsafeSlow(this.#length)
    setBytes(copy, this.#filled(), 0)
    return copy
  }

  reset() {
    this.#check()
    this.#length = 0
    return this
  }

  release() {
    this.#check()
    const slot = /** @type {import('../cache/slot').Slot} */ (this.#slot)
    const ownSlot = this.#ownSlot
    const bytes = this.#bytes
    // First: what follows may run other code, which must not find the block here any more.
    this.#ownSlot = null
    this.#bytes = NO_BYTES
    try {
      this.#cache.calibration.note(this.#length, this.#hint)
      this.#giveBack(slot, this.#generation, this.#isShown)
    } catch (error) {
      if (slot.generation === this.#generation && isLeased(slot)) {
        this.#ownSlot = ownSlot
        this.#bytes = bytes
      }
      throw error
    }
  }

  /** As `release`, but harmless after it. */
  [Symbol.dispose]() {
    const slot = this.#slot
    if (slot !== null && slot.generation === this.#generation && isLeased(slot)) this.release()
  }

  /**
   * @param {number} depth
   * @param {import('./inspect').Options} options
   * @param {import('./inspect').Inspect} inspect
   */
  [custom](depth, options, inspect) {
    if (!(#bytes in this)) return this
    // Without `#check`, whose errors show this object.
    const figures = () => ({ length: this.#length, capacity: lengthOf(this.#bytes) })
    return draw('ByteBuffer', figures, depth, options, inspect)
  }

  /** How many bytes more fit into the block. */
  get #room() {
    return lengthOf(this.#bytes) - this.#length
  }

  /** Refuses what comes after the release, or after the user has sent the memory elsewhere. */
  #check() {
    if (this.#isOver) this.#refuse()
  }

  get #isOver() {
    const slot = this.#slot
    if (slot === null || slot.generation !== this.#generation) return true
    return this.#isShown && !isLeased(slot)
  }

  #refuse() {
    const isHere = this.#slot?.arrayBuffer === arrayBufferOf(this.#bytes)
    // Its ArrayBuffer is still the block's, and has no memory: sent elsewhere, and not released.
    if (isHere && lengthOf(this.#bytes) === 0)
      throw new errors.Detached(this.#cache.name, this, 'this')
    throw new errors.AlreadyReleased(this.#cache.name, this, 'this')
  }

  /** From now on anyone may have a way to the ArrayBuffer, and release the block. */
  #show() {
    this.#isShown = true
    this.#ownSlot = null
  }

  /** A view of the bytes so far. No Buffer: its class is within reach of other code, which would see the ArrayBuffer. */
  #filled() {
    return new Bytes(arrayBufferOf(this.#bytes), 0, this.#length)
  }

  /**
   * Written in place, by Buffer's own `write`. Other code can watch that: the block is no secret of this
   * object's any more.
   *
   * @param {string} data
   * @param {BufferEncoding} encoding
   */
  #appendString(data, encoding = 'utf8') {
    if (encoding !== 'utf8') checkEncoding(encoding)
    if (data.length * LONGEST_UNIT > this.#room) {
      const size = byteLength(data, encoding)
      while (size > this.#room) this.#grow(size)
    }
    this.#show()
    const bytes = bufferOver(arrayBufferOf(this.#bytes), lengthOf(this.#bytes))
    this.#length += bytes.write(data, this.#length, encoding)
  }

  /**
   * Moves to a larger block, twice as large at least: so that each byte is copied once in the mean.
   *
   * To lease it may run other code: a formatter of stacks, or who is told of the ceiling. Where that has
   * used this very buffer, the larger block goes back, and `false` says that nothing was done. Where that
   * has taken memory from `data`, this throws, and nothing was done either.
   *
   * @param {number} size that is needed beyond the bytes so far
   * @param {Uint8Array} [data] `size` bytes to follow them; it may be a view of the old block
   */
  #grow(size, data) {
    this.#check()
    const generation = this.#generation
    const old = this.#bytes
    const length = this.#length
    const bytes = this.#lease(max(length + size, 2 * lengthOf(old)))
    const larger = /** @type {import('../cache/slot').Slot} */ (slotOf(arrayBufferOf(bytes)))
    if (
      this.#isOver ||
      this.#bytes !== old ||
      this.#generation !== generation ||
      this.#length !== length
    ) {
      this.#giveBack(larger, larger.generation, false)
      this.#check()
      return false
    }
    try {
      setBytes(bytes, this.#filled(), 0)
      if (data !== undefined) {
        checkLength(data, size)
        setBytes(bytes, data, length)
      }
    } catch (error) {
      this.#giveBack(larger, larger.generation, false)
      throw error
    }
    if (data !== undefined) this.#length = length + size
    this.#moveTo(bytes)
    return true
  }

  /** @param {Uint8Array} bytes a larger block, with all that was in the old one */
  #moveTo(bytes) {
    const slot = /** @type {import('../cache/slot').Slot} */ (this.#slot)
    const generation = this.#generation
    const isShown = this.#isShown
    this.#own(bytes)
    try {
      this.#giveBack(slot, generation, isShown)
    } catch {
      // The user has marked it as untransferable: it comes back when it is collected.
    }
  }

  /**
   * Leases a block: all of it. Throws where there is none to be had.
   *
   * @param {number} size
   */
  #lease(size) {
    const cache = this.#cache
    return cache.leaseWhole(size) ?? leaseRefused(cache, size, false)
  }

  /** @param {Uint8Array} bytes a block that was just leased */
  #own(bytes) {
    this.#bytes = bytes
    const slot = /** @type {import('../cache/slot').Slot} */ (slotOf(arrayBufferOf(bytes)))
    this.#ownSlot = slot
    this.#generation = slot.generation
    this.#isShown = false
  }

  /**
   * @param {import('../cache/slot').Slot} slot
   * @param {number} generation which lease of its block is meant: others may have released that, and got it
   * @param {boolean} isShown whether anyone else may have a way to its ArrayBuffer
   */
  #giveBack(slot, generation, isShown) {
    const cache = this.#cache
    const { magazine } = slot
    if (slot.generation !== generation) throw new errors.AlreadyReleased(cache.name, this)
    if (magazine !== null) {
      if (magazine.blockSize > cache.calibration.largestKept && cache.discard(slot)) return
      if (!isShown && giveBackToReuse(cache, slot)) return
    }
    releaseBlock(slot.pool, /** @type {ArrayBuffer} */ (slot.arrayBuffer))
  }
}

/**
 * Refuses bytes whose memory other code has taken away, or has made shorter.
 *
 * @param {Uint8Array} data
 * @param {number} length that it had
 */
function checkLength(data, length) {
  if (lengthOf(data) === length) return
  throw new errors.InvalidArgValue('data', `must keep its ${length} bytes meanwhile`, data)
}

/**
 * Before there is a block to grow to. And `write` would take a number for a length.
 *
 * @param {unknown} encoding
 */
function checkEncoding(encoding) {
  if (typeof encoding !== 'string')
    throw new errors.InvalidArgType('encoding', 'a string', encoding)
  // Node's own error for an unknown one.
  NO_BYTES.write('', /** @type {BufferEncoding} */ (encoding))
}

addEntries(ByteBuffer.prototype.append)

module.exports = { byteBufferOn }
