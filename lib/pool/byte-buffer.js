'use strict'

/**
 * A buffer that grows, as those of Go's bytebufferpool do.
 *
 * - Nobody but this object MUST know its ArrayBuffer until `#show` has run. So a release before
 *   that is safe without moving the memory.
 * - The state MUST be consistent before other code can run (each lease may run some), and checked
 *   afterwards.
 *
 * Collaborators: `ThreadCache` (blocks), `Calibration`, `slow-lease`, the plain way of
 * `cache/reuse`.
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

/** The most bytes that a UTF-16 unit takes in any encoding: in UTF-8. */
const LONGEST_UNIT = 3

const NO_BYTES = Buffer.alloc(0)

/**
 * Admits callers to the constructor, which other code can reach through any ByteBuffer. A forged
 * thread cache would see the slots.
 */
const KEY = Symbol('ByteBuffer')

/**
 * Makes a growable buffer on the blocks of a pool.
 *
 * @param {import('../cache/thread-cache').ThreadCache} cache
 * @param {number} size of the first block, at least, in bytes
 * @param {number} [hint] the size that the user has asked for, if any
 */
function byteBufferOn(cache, size, hint = 0) {
  return new ByteBuffer(KEY, cache, size, hint)
}

class ByteBuffer {
  #cache
  /** The bytes that the user expects, or 0. */
  #hint
  /**
   * The block's slot, as long as nobody else can release the block. A longer reference would keep
   * the Buffer of the block's next owner alive.
   *
   * @type {import('../cache/slot').Slot | null}
   */
  #ownSlot = null
  /** The generation of the lease. */
  #generation = 0
  /**
   * A view of all of the block.
   *
   * @type {Uint8Array}
   */
  #bytes = NO_BYTES
  #length = 0
  /** True if other code may reach the ArrayBuffer. */
  #isShown = false

  /**
   * @param {symbol} key `KEY`
   * @param {import('../cache/thread-cache').ThreadCache} cache
   * @param {number} size of the first block, at least, in bytes
   * @param {number} hint the size that the user has asked for, or 0
   */
  constructor(key, cache, size, hint) {
    if (key !== KEY) throw new errors.IllegalConstructor()
    this.#cache = cache
    this.#hint = hint
    this.#own(this.#lease(size))
  }

  /** The block's slot; `null` after the release. */
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
    // Another thread may grow its memory at any moment.
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
    // This comes first: the next steps may run other code, which must not find the block here any
    // more.
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

  /** Releases the block, unless it is released already. */
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
    // This does not call `#check`, whose errors show this object.
    const figures = () => ({ length: this.#length, capacity: lengthOf(this.#bytes) })
    return draw('ByteBuffer', figures, depth, options, inspect)
  }

  /** The bytes that still fit into the block. */
  get #room() {
    return lengthOf(this.#bytes) - this.#length
  }

  /** Throws after the release, or after the user has sent the memory elsewhere. */
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
    // The slot still has this ArrayBuffer, and that has no memory: it was sent elsewhere, and not
    // released.
    if (isHere && lengthOf(this.#bytes) === 0)
      throw new errors.Detached(this.#cache.name, this, 'this')
    throw new errors.AlreadyReleased(this.#cache.name, this, 'this')
  }

  /** Notes that from now on other code may reach the ArrayBuffer, and release the block. */
  #show() {
    this.#isShown = true
    this.#ownSlot = null
  }

  /**
   * Returns a view of the bytes so far. This makes no Buffer: other code can replace its class, and
   * would see the ArrayBuffer.
   */
  #filled() {
    return new Bytes(arrayBufferOf(this.#bytes), 0, this.#length)
  }

  /**
   * Writes a string in place by Buffer's `write`. Other code can watch that, and reach the
   * ArrayBuffer from then on.
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
   * Moves to a block at least twice as large, so that each byte is copied once in the mean.
   *
   * The lease may run other code: a formatter of stacks, or a subscriber to `cistern:exhausted`. If
   * that code has used this very buffer, this releases the larger block and returns `false`; the
   * buffer is unchanged. If it has taken memory from `data`, this throws, and the buffer is
   * unchanged too.
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
      // The user has marked it as untransferable. The block returns to the pool when it is
      // collected.
    }
  }

  /**
   * Leases a block, and returns a view of all of it. Throws if the pool has none.
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
   * Gives a block back.
   *
   * @param {import('../cache/slot').Slot} slot
   * @param {number} generation of the lease: other code may have released that, and leased the
   *   block again
   * @param {boolean} isShown whether other code may reach the ArrayBuffer
   */
  #giveBack(slot, generation, isShown) {
    const cache = this.#cache
    const { magazine } = slot
    if (slot.generation !== generation) throw new errors.AlreadyReleased(cache.name, this)
    if (magazine !== null) {
      if (magazine.blockSize > cache.calibration.largestStored && cache.discard(slot)) return
      if (!isShown && giveBackToReuse(cache, slot)) return
    }
    releaseBlock(slot.pool, /** @type {ArrayBuffer} */ (slot.arrayBuffer))
  }
}

/**
 * Rejects bytes whose memory other code has taken away or made shorter.
 *
 * @param {Uint8Array} data
 * @param {number} length that it had
 */
function checkLength(data, length) {
  if (lengthOf(data) === length) return
  throw new errors.InvalidArgValue('data', `must keep its ${length} bytes meanwhile`, data)
}

/**
 * Rejects an unknown encoding, before there is a block to grow to. `write` would take a number for
 * a length.
 *
 * @param {unknown} encoding
 */
function checkEncoding(encoding) {
  if (typeof encoding !== 'string')
    throw new errors.InvalidArgType('encoding', 'a string', encoding)
  // This throws Node's own error for an unknown one.
  NO_BYTES.write('', /** @type {BufferEncoding} */ (encoding))
}

addEntries(ByteBuffer.prototype.append)

module.exports = { byteBufferOn }
