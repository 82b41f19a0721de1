'use strict'

/** The pool as its users see it. */

const { constants } = require('node:buffer')
const native = require('./native')
const { UNPOOLED_BYTES, UNPOOLED_COUNT, UNPOOLED_RELEASES } = require('./ledger')
const { Lease } = require('./lease')
const { Rack } = require('./rack')
const { checkBoolean, completeOptions } = require('./options')
const { transfer } = require('./runtime')
const { IDLE, LEASED, Slot, slotOf } = require('./slot')
const errors = require('./errors')

const { alloc, allocUnsafe, allocUnsafeSlow } = Buffer
const { isView } = ArrayBuffer

/** The name of the process's own pool, and the key to its making. */
const SHARED = Symbol('shared')

class BufferPool {
  #name
  #rack
  /** Larger requests come from V8. */
  #largest
  #detaches
  #scrubs

  /**
   * @param {import('../index').BufferPoolOptions} [options]
   * @param {symbol} [key] `SHARED` for this thread's end of the process's own pool
   */
  constructor(options, key) {
    const { name, maxBlockSize, detachOnRelease, zeroOnRelease } = completeOptions(options)
    const movable = transfer !== undefined
    const attachment =
      key === SHARED
        ? native.openShared(movable)
        : native.open(detachOnRelease, zeroOnRelease, movable)
    this.#name = name
    this.#largest = maxBlockSize
    this.#detaches = detachOnRelease
    this.#scrubs = zeroOnRelease
    this.#rack = new Rack(this, attachment, detachOnRelease, zeroOnRelease)
  }

  /** @param {import('../index').PoolHandle} _handle */
  static attach(_handle) {
    throw new errors.NotImplemented('BufferPool.attach()')
  }

  /** @param {number} size */
  allocUnsafe(size) {
    if ((size | 0) !== size || size <= 0 || size > this.#largest) return this.#leaseOdd(size, false)
    try {
      const buffer = this.#rack.lease(size)
      if (buffer !== undefined) return buffer
    } catch (error) {
      throw this.#explain(error, size)
    }
    throw new errors.Closed(this.#name)
  }

  /**
   * @param {number} size
   * @param {string | Uint8Array | number} [fill]
   * @param {BufferEncoding} [encoding]
   */
  alloc(size, fill, encoding) {
    const zero = fill === undefined || fill === 0
    if ((size | 0) !== size || size <= 0 || size > this.#largest) {
      const buffer = this.#leaseOdd(size, zero)
      return zero ? buffer : this.#fill(buffer, fill, encoding)
    }
    const buffer = this.allocUnsafe(size)
    return zero ? buffer.fill(0) : this.#fill(buffer, fill, encoding)
  }

  /**
   * @param {number} _size
   * @param {object} [_options]
   */
  acquire(_size, _options) {
    return Promise.reject(new errors.NotImplemented('pool.acquire()'))
  }

  /** @param {number} [_sizeHint] */
  byteBuffer(_sizeHint) {
    throw new errors.NotImplemented('pool.byteBuffer()')
  }

  /** @returns {never} */
  get handle() {
    throw new errors.NotImplemented('pool.handle')
  }

  /** @param {ArrayBufferView | ArrayBuffer} view */
  release(view) {
    const arrayBuffer = isView(view) ? view.buffer : view
    const slot = isObject(arrayBuffer) ? slotOf(arrayBuffer) : undefined
    if (slot === undefined || slot.pool !== this) throw new errors.NotPooled(this.#name, view)
    if (slot.arrayBuffer !== arrayBuffer) throw new errors.AlreadyReleased(this.#name, view)
    const { magazine } = slot
    if (magazine === null) {
      this.#releaseUnpooled(slot, view)
      return
    }
    // A state is meaningless once the ArrayBuffer was transferred. Where release detaches,
    // nobody outside ever has an ArrayBuffer that is attached and idle.
    if (!this.#detaches && slot.states[slot.at] !== LEASED && arrayBuffer.byteLength !== 0) {
      throw new errors.AlreadyReleased(this.#name, view)
    }
    if (!this.#rack.giveBack(slot, magazine)) throw this.#refuse(arrayBuffer, view)
  }

  /**
   * @param {number} size
   * @param {import('../index').LeaseOptions} [options]
   */
  lease(size, options = {}) {
    if (typeof options !== 'object' || options === null) {
      throw new errors.InvalidArgType('options', 'an object', options)
    }
    const { zero = false } = options
    checkBoolean('options.zero', zero)
    const buffer = zero ? this.alloc(size) : this.allocUnsafe(size)
    const arrayBuffer = /** @type {ArrayBuffer} */ (buffer.buffer)
    const { turn } = /** @type {Slot} */ (slotOf(arrayBuffer))
    return new Lease(buffer, () => {
      const slot = slotOf(arrayBuffer)
      if (slot?.turn === turn && this.#isLeased(slot, arrayBuffer)) this.release(arrayBuffer)
    })
  }

  /** @param {ArrayBufferView | ArrayBuffer} view */
  owns(view) {
    const arrayBuffer = isView(view) ? view.buffer : view
    const slot = isObject(arrayBuffer) ? slotOf(arrayBuffer) : undefined
    return slot !== undefined && slot.pool === this && this.#isLeased(slot, arrayBuffer)
  }

  /** @returns {import('../index').PoolStats} */
  stats() {
    const { total, peakInUseBytes, unpooledCount, blockSizes, classes } = this.#rack.stats()
    return Object.freeze({
      name: this.#name,
      ...total,
      peakInUseBytes,
      unpooledCount,
      // What waits, waits for a ceiling, and there is none yet.
      waitCount: 0,
      classes: Object.freeze(
        classes.map((figures, i) => Object.freeze({ blockSize: blockSizes[i], ...figures }))
      )
    })
  }

  /** @param {number} [keepBytes] */
  trim(keepBytes = 0) {
    if (typeof keepBytes !== 'number') {
      throw new errors.InvalidArgType('keepBytes', 'of type number', keepBytes)
    }
    if (!(keepBytes >= 0)) throw new errors.OutOfRange('keepBytes', '>= 0', keepBytes)
    return this.#rack.trim(keepBytes)
  }

  close() {
    this.#rack.close()
  }

  /**
   * Serves a size that no block is for: none, one too large, or no size at all.
   *
   * @param {number} size
   * @param {boolean} zero
   */
  #leaseOdd(size, zero) {
    // Node's own error for what is no size.
    if (typeof size !== 'number' || !(size >= 0 && size <= constants.MAX_LENGTH)) {
      return allocUnsafe(size)
    }
    if (!Number.isInteger(size)) throw new errors.OutOfRange('size', 'an integer', size)
    if (this.#rack.isClosed) throw new errors.Closed(this.#name)
    const buffer = zero && size > 0 ? alloc(size) : allocUnsafeSlow(size)
    const { words } = this.#rack
    words[UNPOOLED_COUNT]++
    words[UNPOOLED_BYTES] += size
    const state = Uint8Array.of(LEASED)
    new Slot(this, null, /** @type {ArrayBuffer} */ (buffer.buffer), state, 0)
    return buffer
  }

  /**
   * @param {Slot} slot
   * @param {ArrayBufferView | ArrayBuffer} view
   */
  #releaseUnpooled(slot, view) {
    if (slot.states[slot.at] !== LEASED) throw new errors.AlreadyReleased(this.#name, view)
    const arrayBuffer = /** @type {ArrayBuffer} */ (slot.arrayBuffer)
    if (this.#scrubs && arrayBuffer.byteLength > 0) new Uint8Array(arrayBuffer).fill(0)
    // Detached, its memory goes at once and does not wait for the garbage collector.
    if (this.#detaches && !discard(arrayBuffer)) throw this.#refuse(arrayBuffer, view)
    slot.states[slot.at] = IDLE
    this.#rack.words[UNPOOLED_RELEASES]++
  }

  /**
   * @param {Slot} slot
   * @param {object} arrayBuffer
   */
  #isLeased(slot, arrayBuffer) {
    if (slot.arrayBuffer !== arrayBuffer || slot.states[slot.at] !== LEASED) return false
    return slot.magazine === null || slot.arrayBuffer.byteLength !== 0
  }

  /**
   * Fills a new lease, or gives it back where it can't be filled so.
   *
   * @param {Buffer} buffer
   * @param {string | Uint8Array | number | undefined} fill
   * @param {BufferEncoding} [encoding]
   */
  #fill(buffer, fill, encoding) {
    try {
      return buffer.fill(/** @type {any} */ (fill), encoding)
    } catch (error) {
      this.release(buffer)
      throw error
    }
  }

  /**
   * Why a leased ArrayBuffer could not be taken back.
   *
   * @param {{ byteLength: number }} arrayBuffer
   * @param {unknown} view
   */
  #refuse(arrayBuffer, view) {
    return arrayBuffer.byteLength === 0
      ? new errors.Detached(this.#name, view)
      : new errors.Undetachable(this.#name, view)
  }

  /**
   * @param {unknown} error from the addon
   * @param {number} size
   */
  #explain(error, size) {
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (error)
    if (code !== 'ERR_MEMORY_ALLOCATION_FAILED') return error
    return new errors.OutOfMemory(this.#name, size, message)
  }
}

/**
 * @param {unknown} value
 * @returns {value is object}
 */
function isObject(value) {
  return typeof value === 'object' && value !== null
}

/**
 * Detaches an ArrayBuffer whose memory is V8's. Whether it could be.
 *
 * @param {ArrayBuffer} arrayBuffer
 */
function discard(arrayBuffer) {
  if (transfer === undefined) return native.discard(arrayBuffer)
  try {
    transfer(arrayBuffer, 0)
    return true
  } catch {
    return false
  }
}

/** This thread's end of the process's own pool. */
function openShared() {
  return new BufferPool({ name: 'shared' }, SHARED)
}

module.exports = { BufferPool, openShared }
