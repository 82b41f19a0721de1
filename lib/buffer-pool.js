'use strict'

/** The pool as its users see it. */

const { constants } = require('node:buffer')
const native = require('./native')
const { IDLE, LEASED, STATE } = require('./ledger')
const { Lease } = require('./lease')
const detaching = require('./detaching')
const keeping = require('./keeping')
const { Rack } = require('./rack')
const { checkBoolean, completeOptions } = require('./options')
const { arrayBufferOf, byteLengthOf, transfer, zero, zeroFill } = require('./runtime')
const { Slot, isLeased } = require('./slot')
const { slotOf } = require('./tag')
const errors = require('./errors')

const { alloc, allocUnsafe, allocUnsafeSlow } = Buffer

/** The key to a thread's end of the process's own pool. */
const SHARED = Symbol('shared')

class BufferPool {
  #name
  #rack
  /** Larger requests come from V8. */
  #largest
  /** Larger requests take the slow path. */
  #fastLimit
  #detaches

  /**
   * @param {import('../index').BufferPoolOptions} [options]
   * @param {symbol} [key] `SHARED` for this thread's end of the process's own pool
   */
  constructor(options, key) {
    const { name, maxBlockSize, detachOnRelease, zeroOnRelease } = completeOptions(options)
    const attachment =
      key === SHARED ? native.openShared() : native.open(detachOnRelease, zeroOnRelease)
    this.#name = name
    this.#largest = maxBlockSize
    // The fast path leaves contents as they are, so under this flag there is none.
    this.#fastLimit = zeroFill ? 0 : maxBlockSize
    this.#detaches = detachOnRelease
    this.#rack = new Rack(this, attachment, zeroOnRelease)
  }

  /** @param {unknown} _handle */
  static attach(_handle) {
    throw new errors.NotImplemented('BufferPool.attach()')
  }

  /** @param {number} size */
  allocUnsafe(size) {
    if (typeof size === 'number' && (size | 0) === size && size > 0 && size <= this.#fastLimit) {
      const rack = this.#rack
      const buffer = this.#detaches ? detaching.lease(rack, size) : keeping.lease(rack, size)
      if (buffer !== undefined) return buffer
    }
    return this.#leaseOdd(size, zeroFill)
  }

  /**
   * @param {number} size
   * @param {string | Uint8Array | number} [fill]
   * @param {BufferEncoding} [encoding]
   */
  alloc(size, fill, encoding) {
    if (fill === undefined || fill === 0 || size === 0) return this.#leaseOdd(size, true)
    const buffer = this.allocUnsafe(size)
    try {
      return buffer.fill(fill, 0, size, encoding)
    } catch (error) {
      this.release(buffer)
      throw error
    }
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
    const arrayBuffer = arrayBufferOf(view)
    const slot = slotOf(arrayBuffer)
    if (slot !== undefined && slot.pool === this) {
      const rack = this.#rack
      const taken = this.#detaches
        ? detaching.giveBack(rack, slot, arrayBuffer)
        : keeping.giveBack(rack, slot)
      if (taken) return
    }
    this.#releaseOdd(slot, arrayBuffer, view)
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
    return new Lease(buffer, /** @type {Slot} */ (slotOf(arrayBufferOf(buffer))))
  }

  /** @param {ArrayBufferView | ArrayBuffer} view */
  owns(view) {
    const arrayBuffer = arrayBufferOf(view)
    const slot = slotOf(arrayBuffer)
    return slot?.pool === this && slot.arrayBuffer === arrayBuffer && isLeased(slot)
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
   * Every lease that is not the plain one: zero-filled, of a size that no block is for, of what
   * is no size at all, or from a closed pool.
   *
   * @param {number} size
   * @param {boolean} zeroed
   * @returns {Buffer}
   */
  #leaseOdd(size, zeroed) {
    // Node's own error for what is no size.
    if (typeof size !== 'number' || !(size >= 0 && size <= constants.MAX_LENGTH)) {
      return allocUnsafe(size)
    }
    if (!Number.isInteger(size)) throw new errors.OutOfRange('size', 'an integer', size)
    if (size === 0 || size > this.#largest) return this.#leaseUnpooled(size, zeroed)
    const { lease } = this.#detaches ? detaching : keeping
    const buffer = lease(this.#rack, size)
    if (buffer === undefined) throw new errors.Closed(this.#name)
    return zeroed ? buffer.fill(0) : buffer
  }

  /**
   * @param {number} size
   * @param {boolean} zeroed
   */
  #leaseUnpooled(size, zeroed) {
    if (this.#rack.isClosed) throw new errors.Closed(this.#name)
    const buffer = zeroed && size > 0 ? alloc(size) : allocUnsafeSlow(size)
    this.#rack.bookUnpooled(size)
    const words = Float64Array.of(LEASED, 1)
    const slot = new Slot(this, null, arrayBufferOf(buffer), words, 0)
    slot.size = size
    return buffer
  }

  /**
   * Every release that is not the plain one: of memory that V8 owns, or of what can't be
   * released.
   *
   * @param {Slot | undefined} slot what hangs on the ArrayBuffer
   * @param {ArrayBuffer} arrayBuffer
   * @param {ArrayBufferView | ArrayBuffer} view
   */
  #releaseOdd(slot, arrayBuffer, view) {
    if (slot?.pool !== this) throw new errors.NotPooled(this.#name, view)
    if (slot.arrayBuffer !== arrayBuffer) throw new errors.AlreadyReleased(this.#name, view)
    const isPooled = slot.magazine !== null
    const isEmpty = byteLengthOf(arrayBuffer) === 0
    // The seat of a block that was transferred may be another's; V8's memory has one of its own.
    if (isPooled && isEmpty) throw new errors.Detached(this.#name, view)
    if (!isLeased(slot)) throw new errors.AlreadyReleased(this.#name, view)
    if (isEmpty && slot.size > 0) throw new errors.Detached(this.#name, view)
    if (isPooled || !this.#discard(arrayBuffer)) throw new errors.Undetachable(this.#name, view)
    slot.words[slot.at + STATE] = IDLE
    this.#rack.bookUnpooledRelease()
  }

  /**
   * Lets go of memory that V8 owns: detached, it goes at once and does not wait for the garbage
   * collector. Whether that could be done.
   *
   * @param {ArrayBuffer} arrayBuffer
   */
  #discard(arrayBuffer) {
    const { scrubs } = this.#rack
    if (!this.#detaches || transfer === undefined) {
      if (scrubs) zero(arrayBuffer)
      return !this.#detaches || native.discard(arrayBuffer)
    }
    try {
      const moved = transfer(arrayBuffer)
      if (scrubs) zero(moved)
      transfer(moved, 0)
      return true
    } catch {
      return false
    }
  }
}

/** This thread's end of the process's own pool. */
function openShared() {
  return new BufferPool({ name: 'shared' }, SHARED)
}

module.exports = { BufferPool, openShared }
