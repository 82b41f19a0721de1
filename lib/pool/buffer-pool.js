'use strict'

/**
 * The pool as its users see it: checks arguments, leases and releases the plain way, and passes the
 * rest on.
 *
 * - A released ArrayBuffer MUST carry a slot of this very pool, or be known to the core.
 * - `allocUnsafe` and `release` MUST stay small: V8 compiles them into their callers together with
 *   what they call.
 *
 * Collaborators: `ThreadCache`, the two ways of release (`cache/detach`, `cache/reuse`),
 * `slow-lease`, `slow-release`, `request`, `ByteBuffer`, `attached-pools`.
 */

const {
  Buffer,
  constants: { MAX_LENGTH }
} = require('node:buffer')
const native = require('../runtime/native')
const { arrayBufferOf, uncurry, zeroBeyond, zeroFill } = require('../runtime/intrinsics')
const { addEntries } = require('../cache/call-site')
const { isLeased } = require('../cache/slot')
const { slotOf } = require('../cache/tag')
const { ThreadCache } = require('../cache/thread-cache')
const attachedPools = require('./attached-pools')
const { byteBufferOn } = require('./byte-buffer')
const { checkOptions } = require('./check-options')
const { markAsOurs } = require('./copy')
const { Closed, InvalidArgType, InvalidHandle, OutOfRange } = require('./errors')
const { handleOf, keyOf } = require('./handle')
const { custom, draw } = require('./inspect')
const { bindRelease, bufferOf, endLease } = require('./lease')
const { checkBoolean, toSettings } = require('./options')
const { acquire, request } = require('./request')
const { canEverHold: canCacheEverHold, isSize, leaseOwned, leaseSlowly } = require('./slow-lease')
const { isLeasedRemotely, releaseSlowly } = require('./slow-release')

const fillBuffer = uncurry(Buffer.prototype.fill)

// Local constants: property lookups in the modules would make the functions of the fast path too
// large for V8 to compile into one.
const { giveBack: giveBackToDetach, lease: leaseToDetach } = require('../cache/detach')
const { giveBack: giveBackToReuse, lease: leaseToReuse } = require('../cache/reuse')

/** Admits an existing attachment to the constructor. */
const ATTACHED = Symbol('attached')

const LEASE_OPTIONS = ['zero']

/**
 * Returns a pool's thread cache, for the rest of this library.
 *
 * @type {(pool: BufferPool) => ThreadCache}
 */
let cacheOf

/**
 * Tells whether a value is a pool of this copy of the library. No other object can pass for one.
 *
 * @type {(value: unknown) => value is BufferPool}
 */
let isPool

class BufferPool {
  static {
    cacheOf = (pool) => pool.#cache
    isPool = (value) => typeof value === 'object' && value !== null && #cache in value
  }

  #cache
  /** Larger requests take the slow path. */
  #fastLimit
  #detaches

  /**
   * @param {import('../..').BufferPoolOptions} [options]
   * @param {symbol} [key] `ATTACHED` if there is an attachment already
   * @param {import('../runtime/native').Attachment} [attached]
   */
  constructor(options, key, attached) {
    const attachment =
      key === ATTACHED && attached !== undefined ? attached : native.open(toSettings(options))
    this.#cache = new ThreadCache(this, attachment)
    // The fast path leaves contents as they are, so Node's flag rules it out.
    this.#fastLimit = zeroFill ? 0 : this.#cache.largest
    this.#detaches = this.#cache.detaches
  }

  /** @param {import('../..').PoolHandle} handle */
  static attach(handle) {
    const key = keyOf(handle)
    const here = attachedPools.find(key)
    if (here !== undefined) return here
    let attachment
    try {
      attachment = native.attach(key)
    } catch (error) {
      throw new InvalidHandle(/** @type {Error} */ (error).message, handle)
    }
    const pool = new BufferPool(undefined, ATTACHED, attachment)
    if (pool.#cache.isClosed) throw new Closed(pool.#cache.name)
    share(pool, key)
    return pool
  }

  /** @param {number} size */
  allocUnsafe(size) {
    const cache = this.#cache
    if (typeof size === 'number' && (size | 0) === size && size > 0 && size <= this.#fastLimit) {
      const buffer = this.#detaches ? leaseToDetach(cache, size) : leaseToReuse(cache, size)
      if (buffer !== undefined) return buffer
    }
    return leaseSlowly(cache, size, zeroFill)
  }

  /**
   * @param {number} size
   * @param {string | Uint8Array | number} [fill]
   * @param {BufferEncoding} [encoding]
   */
  alloc(size, fill, encoding) {
    if (fill === undefined || fill === 0 || size === 0) return leaseSlowly(this.#cache, size, true)
    const lease = leaseOwned(this.#cache, size, false)
    const buffer = bufferOf(lease)
    try {
      zeroBeyond(buffer)
      fillBuffer(buffer, fill, 0, size, encoding)
    } catch (error) {
      endLease(lease)
      throw error
    }
    return buffer
  }

  /**
   * @param {number} size
   * @param {import('../..').AcquireOptions} [options]
   * @returns {Promise<Buffer>}
   */
  acquire(size, options = {}) {
    return acquire(this.#cache, size, options, bufferOf)
  }

  /**
   * @param {number} size
   * @param {import('../..').AcquireOptions} [options]
   * @returns {Promise<import('./lease').Lease>}
   */
  acquireLease(size, options = {}) {
    return acquire(this.#cache, size, options, itself)
  }

  /**
   * @param {number} size
   * @param {import('../..').LeaseOptions} [options]
   */
  lease(size, options = {}) {
    checkOptions(options, LEASE_OPTIONS)
    const { zero = false } = options
    checkBoolean('options.zero', zero)
    return leaseOwned(this.#cache, size, Boolean(zero))
  }

  /** @param {number} [sizeHint] */
  byteBuffer(sizeHint) {
    const cache = this.#cache
    if (sizeHint === undefined) return byteBufferOn(cache, cache.calibration.firstSize)
    if (typeof sizeHint !== 'number') {
      throw new InvalidArgType('sizeHint', 'of type number', sizeHint)
    }
    if (!isSize(sizeHint)) {
      throw new OutOfRange('sizeHint', `an integer >= 0 && <= ${MAX_LENGTH}`, sizeHint)
    }
    return byteBufferOn(cache, sizeHint, sizeHint)
  }

  /** @param {ArrayBufferView | ArrayBuffer} view */
  release(view) {
    const cache = this.#cache
    const arrayBuffer = arrayBufferOf(view)
    const slot = slotOf(arrayBuffer)
    if (slot !== undefined && slot.pool === this) {
      const taken = this.#detaches
        ? giveBackToDetach(cache, slot, arrayBuffer)
        : giveBackToReuse(cache, slot)
      if (taken) return
    }
    releaseSlowly(cache, slot, arrayBuffer, view)
  }

  /** @param {ArrayBufferView | ArrayBuffer} view */
  owns(view) {
    const arrayBuffer = arrayBufferOf(view)
    const slot = slotOf(arrayBuffer)
    if (slot !== undefined && slot.pool === this) {
      return slot.arrayBuffer === arrayBuffer && isLeased(slot)
    }
    return isLeasedRemotely(this.#cache, arrayBuffer)
  }

  /** @returns {import('../..').PoolHandle} */
  get handle() {
    const cache = this.#cache
    const key = native.handle(cache.attachment)
    share(this, key)
    cache.wakes.listen()
    return handleOf(cache.name, key)
  }

  /** @returns {import('../..').PoolStats} */
  stats() {
    return this.#cache.stats()
  }

  /** @returns {readonly import('../..').Holder[]} */
  holders() {
    return this.#cache.holders()
  }

  /** @param {number} [keepBytes] */
  trim(keepBytes = 0) {
    if (typeof keepBytes !== 'number') {
      throw new InvalidArgType('keepBytes', 'of type number', keepBytes)
    }
    if (!(keepBytes >= 0)) throw new OutOfRange('keepBytes', '>= 0', keepBytes)
    return this.#cache.trimmer.trim(keepBytes)
  }

  close() {
    this.#cache.close()
  }

  /**
   * @param {number} depth
   * @param {import('./inspect').Options} options
   * @param {import('./inspect').Inspect} inspect
   */
  [custom](depth, options, inspect) {
    if (!(#cache in this)) return this
    const figures = () => {
      const { name, inUseBytes, idleBytes, maxBytes } = this.stats()
      return { name, inUseBytes, idleBytes, maxBytes }
    }
    return draw('BufferPool', figures, depth, options, inspect)
  }
}

const { prototype } = /** @type {any} */ (BufferPool)

// Taken now: other code must not come between a block and the rest of this library.
const release = uncurry(prototype.release)
const owns = uncurry(prototype.owns)
bindRelease(release)
markAsOurs(BufferPool)

addEntries(prototype.allocUnsafe, prototype.alloc, prototype.lease)
addEntries(prototype.acquire, prototype.acquireLease, prototype.byteBuffer)

/**
 * Requests a block for the rest of this library: no promise and no signal comes between the block
 * and its owner.
 *
 * @param {BufferPool} pool
 * @param {number} size whole, from 1 up
 * @param {(lease: import('./lease').Lease) => void} onLease
 * @param {(reason: unknown) => void} onError
 * @param {() => void} [onWait]
 * @returns {() => void} cancels
 */
function requestLease(pool, size, onLease, onError, onWait) {
  return request(cacheOf(pool), size, onLease, onError, onWait)
}

/**
 * Leases for the rest of this library. Users call another function, whose caller is a call site.
 *
 * @param {BufferPool} pool
 * @param {number} size
 */
function leaseFrom(pool, size) {
  return leaseOwned(cacheOf(pool), size, zeroFill)
}

/**
 * Tells whether a pool could hold `bytes` bytes with nothing else leased.
 *
 * @param {BufferPool} pool
 * @param {number} size
 */
function canEverHold(pool, size) {
  return canCacheEverHold(cacheOf(pool), size)
}

/** Opens this thread's attachment to the pool that the process shares. */
function openShared() {
  const attachment = native.openShared(toSettings({ name: 'shared' }))
  const key = native.handle(attachment)
  const here = attachedPools.find(key)
  if (here !== undefined) return here
  const pool = new BufferPool(undefined, ATTACHED, attachment)
  share(pool, key)
  return pool
}

/**
 * Notes that other threads can have this pool.
 *
 * @param {BufferPool} pool
 * @param {string} key of its handle
 */
function share(pool, key) {
  attachedPools.add(key, pool)
  cacheOf(pool).elsewhere.isShared = true
}

/** @param {import('./lease').Lease} lease */
const itself = (lease) => lease

module.exports = {
  BufferPool,
  cacheOf,
  canEverHold,
  isPool,
  leaseFrom,
  openShared,
  owns,
  release,
  requestLease
}
