'use strict'

/** The pool as its users see it. */

const {
  Buffer,
  constants: { MAX_LENGTH }
} = require('node:buffer')
const { isArrayBuffer } = require('node:util').types
const native = require('../runtime/native')
const { byteBufferOn } = require('./byte-buffer')
const { addEntries } = require('../cache/call-site')
const { checkOptions } = require('./check-options')
const channels = require('./channels')
const { IDLE, LEASED, SAMPLE, SAMPLED, STATE } = require('../cache/thread-counters')
const { markAsOurs } = require('./copy')
const { Lease, bindRelease, bufferOf, endLease } = require('./lease')
const ends = require('./attached-pools')
const { custom, draw } = require('./inspect')
const { ThreadCache } = require('../cache/thread-cache')
const { checkBoolean, checkSignal, toSettings } = require('./options')
const runtime = require('../runtime/intrinsics')
const { classOf } = require('../cache/size-class')
const { Slot, isLeased } = require('../cache/slot')
const { hang, slotOf } = require('../cache/tag')
const errors = require('./errors')

const {
  allocUnsafeSlow,
  arrayBufferOf,
  byteLengthOf,
  transfer,
  resolveWith,
  uncurry,
  zero,
  zeroFill
} = runtime
const { alloc, allocUnsafe } = Buffer
const { isInteger } = Number
const fillBuffer = uncurry(Buffer.prototype.fill)

// As constants of their own: to look them up in their modules would make the fast path's functions
// too large to be compiled into one.
const { giveBack: giveBackToDetach, lease: leaseToDetach } = require('../cache/detach')
const { giveBack: giveBackToReuse, lease: leaseToReuse } = require('../cache/reuse')

const { headColumns, columnsPerRow } = native.layout()

/** The key to a pool on an attachment that is there already. */
const ATTACHED = Symbol('attached')

/** As many words as a segment of one row has: for memory of V8's, which has no row. */
const WORDS_OF_OWN = headColumns + columnsPerRow

/** What the calls that take options know. */
const LEASE_OPTIONS = ['zero']
const ACQUIRE_OPTIONS = ['zero', 'signal']

/** What the core knows of memory that was moved, or sent, to an ArrayBuffer without a slot. */
const LEASED_UNPOOLED = 2
const LEASED_ELSEWHERE = 1
const RELEASED = 0

/**
 * The magazines behind a pool, for the rest of this library.
 *
 * @type {(pool: BufferPool) => ThreadCache}
 */
let cacheOf

/**
 * A pool's `#request`, for the rest of this library: no promise and no signal comes between a block and its owner.
 *
 * @type {(pool: BufferPool, size: number, onLease: (lease: Lease) => void, onError: (reason: unknown) => void,
 *   onWait?: () => void) => () => void}
 */
let requestLease

/**
 * A pool's `lease`, for the rest of this library. It is none of the functions that users call, whose callers are call sites.
 *
 * @type {(pool: BufferPool, size: number) => Lease}
 */
let leaseFrom

/**
 * Whether a pool could hold so many bytes with nothing else leased, for the rest of this library.
 *
 * @type {(pool: BufferPool, size: number) => boolean}
 */
let canEverHold

/**
 * Whether a value is a pool of this copy of the library. Nothing can pretend to be one.
 *
 * @type {(value: unknown) => value is BufferPool}
 */
let isPool

class BufferPool {
  static {
    cacheOf = (pool) => pool.#cache
    leaseFrom = (pool, size) => pool.#leaseOwned(size, zeroFill)
    canEverHold = (pool, size) => pool.#canEverHold(size)
    isPool = (value) => typeof value === 'object' && value !== null && #cache in value
    requestLease = (pool, size, onLease, onError, onWait) =>
      pool.#request(size, onLease, onError, onWait)
  }

  #name
  #cache
  /** Larger requests come from V8. */
  #largest
  /** Larger requests take the slow path. */
  #fastLimit
  #detaches
  /** Whether the synchronous calls throw at the ceiling. */
  #throws

  /**
   * @param {import('../..').BufferPoolOptions} [options]
   * @param {symbol} [key] `ATTACHED` for an attachment that is there already
   * @param {import('../runtime/native').Attachment} [attached]
   */
  constructor(options, key, attached) {
    const attachment =
      key === ATTACHED && attached !== undefined ? attached : native.open(toSettings(options))
    const settings = native.settings(attachment)
    this.#name = settings.name
    this.#largest = settings.maxBlockSize
    // The fast path leaves contents as they are, so under this flag there is none.
    this.#fastLimit = zeroFill ? 0 : settings.maxBlockSize
    this.#detaches = settings.detachOnRelease
    this.#throws = settings.throwsWhenExhausted
    this.#cache = new ThreadCache(this, attachment, (size) => this.#leaseRefused(size, false))
  }

  /** @param {import('../..').PoolHandle} handle */
  static attach(handle) {
    const key = keyOf(handle)
    const here = ends.find(key)
    if (here !== undefined) return here
    let attachment
    try {
      attachment = native.attach(key)
    } catch (error) {
      throw new errors.InvalidHandle(/** @type {Error} */ (error).message, handle)
    }
    const pool = new BufferPool(undefined, ATTACHED, attachment)
    if (pool.#cache.isClosed) throw new errors.Closed(pool.#name)
    ends.add(key, pool)
    pool.#cache.isShared = true
    return pool
  }

  /** @param {number} size */
  allocUnsafe(size) {
    if (typeof size === 'number' && (size | 0) === size && size > 0 && size <= this.#fastLimit) {
      const cache = this.#cache
      const buffer = this.#detaches ? leaseToDetach(cache, size) : leaseToReuse(cache, size)
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
    const lease = this.#leaseOwned(size, false)
    const buffer = bufferOf(lease)
    try {
      runtime.zeroBeyond(buffer)
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
    return this.#acquire(size, options, bufferOf)
  }

  /**
   * @param {number} size
   * @param {import('../..').AcquireOptions} [options]
   * @returns {Promise<Lease>}
   */
  acquireLease(size, options = {}) {
    return this.#acquire(size, options, itself)
  }

  /**
   * @template {object} Result
   * @param {number} size
   * @param {import('../..').AcquireOptions} options
   * @param {(lease: Lease) => Result} resultOf the lease, as its user gets it
   * @returns {Promise<Result>}
   */
  #acquire(size, options, resultOf) {
    // No `async`: to wait for a promise shows that, and so a lease, to whoever watches the class of promises.
    /** @type {(result: Result) => void} */
    let resolve = () => {}
    /** @type {(reason: unknown) => void} */
    let reject = () => {}
    const promise = new runtime.OwnPromise((resolveIt, rejectIt) => {
      resolve = resolveIt
      reject = rejectIt
    })
    try {
      const { zero: zeroed, signal } = checkAcquire(options)
      if (signal?.aborted) throw new errors.Abort(signal.reason)
      if (!isSize(size) || size === 0) {
        resolveWith(resolve, resultOf(leaseOf(this.#leaseOdd(size, zeroed))))
      } else {
        const settle = (/** @type {Lease} */ lease) => resolveWith(resolve, resultOf(lease))
        new Acquiring(this, size, zeroed, signal, settle, reject)
      }
    } catch (error) {
      reject(error)
    }
    return promise
  }

  /**
   * Leases a block as `acquire` does: at once, or as soon as those before have theirs. Calls back once, perhaps
   * before it returns.
   *
   * @param {number} size whole, from 1 up
   * @param {(lease: Lease) => void} onLease
   * @param {(reason: unknown) => void} onError also with what `onWait` throws
   * @param {() => void} [onWait] called before it stands in line, and may cancel
   * @returns {() => void} cancels the request; after that neither is called
   */
  #request(size, onLease, onError, onWait) {
    let isOver = false
    let ticket = 0
    const serve = (/** @type {Lease} */ lease) => {
      // Cancelled before its ticket was known.
      if (isOver) return endLease(lease)
      isOver = true
      onLease(lease)
    }
    const refuse = (/** @type {unknown} */ reason) => {
      if (isOver) return
      isOver = true
      onError(reason)
    }
    const cancel = () => {
      if (isOver) return
      isOver = true
      if (ticket !== 0) this.#cache.waiting.cancel(ticket)
    }
    try {
      const cache = this.#cache
      if (cache.isClosed) throw new errors.Closed(this.#name)
      if (!this.#canEverHold(size)) throw this.#exhausted(size)
      const lease =
        size > this.#largest ? leaseOf(this.#leaseUnpooled(size, false)) : cache.tryLease(size)
      if (lease !== undefined) {
        serve(lease)
      } else {
        this.#publishExhausted(size, 'wait')
        onWait?.()
        if (!isOver) ticket = cache.wait(size, serve, refuse)
        // Cancelled from within that, before its ticket was known: by a formatter of stacks, perhaps.
        if (isOver && ticket !== 0) cache.waiting.cancel(ticket)
      }
    } catch (error) {
      refuse(error)
    }
    return cancel
  }

  /** @param {number} [sizeHint] */
  byteBuffer(sizeHint) {
    if (sizeHint === undefined) {
      return byteBufferOn(this.#cache, this.#cache.calibration.firstSize)
    }
    if (typeof sizeHint !== 'number') {
      throw new errors.InvalidArgType('sizeHint', 'of type number', sizeHint)
    }
    if (!isSize(sizeHint)) {
      const range = `an integer >= 0 && <= ${MAX_LENGTH}`
      throw new errors.OutOfRange('sizeHint', range, sizeHint)
    }
    return byteBufferOn(this.#cache, sizeHint, sizeHint)
  }

  /** @returns {import('../..').PoolHandle} */
  get handle() {
    const key = native.handle(this.#cache.attachment)
    ends.add(key, this)
    this.#cache.trimmer.listen()
    this.#cache.isShared = true
    return Object.freeze({ type: HANDLE_TYPE, name: this.#name, key })
  }

  /** @param {ArrayBufferView | ArrayBuffer} view */
  release(view) {
    const arrayBuffer = arrayBufferOf(view)
    const slot = slotOf(arrayBuffer)
    if (slot !== undefined && slot.pool === this) {
      const cache = this.#cache
      const taken = this.#detaches
        ? giveBackToDetach(cache, slot, arrayBuffer)
        : giveBackToReuse(cache, slot)
      if (taken) return
    }
    this.#releaseOdd(slot, arrayBuffer, view)
  }

  /**
   * @param {number} size
   * @param {import('../..').LeaseOptions} [options]
   */
  lease(size, options = {}) {
    checkOptions(options, LEASE_OPTIONS)
    const { zero = false } = options
    checkBoolean('options.zero', zero)
    return this.#leaseOwned(size, Boolean(zero))
  }

  /**
   * A lease that its holder keeps by its slot.
   *
   * @param {number} size
   * @param {boolean} zeroed
   */
  #leaseOwned(size, zeroed) {
    if (!(isSize(size) && size > 0 && size <= this.#largest)) {
      return leaseOf(this.#leaseOdd(size, zeroed))
    }
    const lease = this.#cache.lease(size)
    if (lease === undefined) return leaseOf(this.#leaseRefused(size, zeroed))
    if (zeroed && !zeroFill) runtime.zeroWhole(bufferOf(lease))
    return lease
  }

  /** @param {ArrayBufferView | ArrayBuffer} view */
  owns(view) {
    const arrayBuffer = arrayBufferOf(view)
    const slot = slotOf(arrayBuffer)
    if (slot !== undefined && slot.pool === this) {
      return slot.arrayBuffer === arrayBuffer && isLeased(slot)
    }
    return this.#stateElsewhere(arrayBuffer) >= LEASED_ELSEWHERE
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
      throw new errors.InvalidArgType('keepBytes', 'of type number', keepBytes)
    }
    if (!(keepBytes >= 0)) throw new errors.OutOfRange('keepBytes', '>= 0', keepBytes)
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
    if (!(#name in this)) return this
    const figures = () => {
      const { name, inUseBytes, idleBytes, maxBytes } = this.stats()
      return { name, inUseBytes, idleBytes, maxBytes }
    }
    return draw('BufferPool', figures, depth, options, inspect)
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
    if (typeof size !== 'number' || !(size >= 0 && size <= MAX_LENGTH)) {
      return allocUnsafe(size)
    }
    if (!isInteger(size)) throw new errors.OutOfRange('size', 'an integer', size)
    if (size === 0 || size > this.#largest) return this.#leaseUnpooled(size, zeroed)
    const buffer = this.#cache.takeRefusal() ? undefined : this.#cache.way.lease(this.#cache, size)
    if (buffer === undefined) return this.#leaseRefused(size, zeroed)
    return zeroed ? runtime.zeroWhole(buffer) : buffer
  }

  /**
   * A lease that got no block of its class: a larger one is to serve it, or the pool is closed, or at its ceiling.
   *
   * @param {number} size
   * @param {boolean} zeroed
   * @returns {Buffer}
   */
  #leaseRefused(size, zeroed) {
    // It was this lease's, and not the next one's.
    this.#cache.takeRefusal()
    const larger = this.#cache.leaseLarger(size)
    if (larger !== undefined) {
      return zeroed && !zeroFill ? runtime.zeroWhole(bufferOf(larger)) : bufferOf(larger)
    }
    if (this.#cache.isClosed) throw new errors.Closed(this.#name)
    if (size === 0 || size > this.#largest) return this.#leaseUnpooled(size, zeroed)
    this.#publishExhausted(size, this.#throws ? 'throw' : 'unpooled')
    if (!this.#throws) return this.#leaseUnpooled(size, zeroed)
    throw this.#exhausted(size)
  }

  /**
   * Whether there could be room for a request, with nothing else leased.
   *
   * @param {number} size
   */
  #canEverHold(size) {
    if (size > this.#cache.maxBytes) return false
    return size > this.#largest || native.canEverHold(this.#cache.attachment, classOf(size))
  }

  /** @param {number} size */
  #exhausted(size) {
    const why = this.#canEverHold(size)
      ? 'too much of it is leased, or on its way back, or others wait for it'
      : errors.NEVER
    return new errors.Exhausted(this.#name, size, this.#cache.maxBytes, why)
  }

  /**
   * @param {number} size
   * @param {'throw' | 'unpooled' | 'wait'} outcome
   */
  #publishExhausted(size, outcome) {
    if (channels.exhausted.hasSubscribers) {
      channels.exhausted.publish({
        pool: this.#name,
        size,
        maxBytes: this.#cache.maxBytes,
        outcome
      })
    }
  }

  /**
   * @param {number} size
   * @param {boolean} zeroed
   */
  #leaseUnpooled(size, zeroed) {
    const cache = this.#cache
    if (cache.isClosed) throw new errors.Closed(this.#name)
    // An empty one gets memory, too: without an address nothing could tell it from any other in another thread.
    const whole = zeroed || size === 0 ? alloc(size === 0 ? 1 : size) : allocUnsafeSlow(size)
    const arrayBuffer = /** @type {ArrayBuffer} */ (arrayBufferOf(whole))
    const guard = native.noteUnpooled(cache.attachment, arrayBuffer)
    cache.bookUnpooled(size)
    const words = new runtime.Floats(WORDS_OF_OWN)
    const slot = new Slot(this, null, arrayBuffer, words, 0)
    words[slot.at + STATE] = LEASED
    slot.guard = guard
    return size === 0 ? runtime.bufferOver(arrayBuffer, 0) : whole
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
    if (slot?.pool !== this) {
      this.#releaseElsewhere(arrayBuffer, view)
      // So that a second release hears that there was a first.
      if (slot === undefined) hang(arrayBuffer, this.#cache.gone)
      return
    }
    if (slot.arrayBuffer !== arrayBuffer) throw new errors.AlreadyReleased(this.#name, view)
    // The row of a block that was transferred may be another's.
    if (byteLengthOf(arrayBuffer) === 0) throw new errors.Detached(this.#name, view)
    const state = slot.words[slot.at + STATE]
    if (state !== LEASED && state !== SAMPLED) throw new errors.AlreadyReleased(this.#name, view)
    if (state === SAMPLED) {
      // By a stale view, from within the lease: nobody has been given it yet.
      if (slot.words[slot.at + SAMPLE] === 0) throw new errors.AlreadyReleased(this.#name, view)
      this.#cache.sampler.drop(slot)
      release(this, arrayBuffer)
      return
    }
    if (slot.magazine !== null) throw new errors.Undetachable(this.#name, view)
    this.#releaseUnpooled(slot, arrayBuffer, view)
  }

  /**
   * Lets go of memory that V8 owns: detached, it goes at once and does not wait for the garbage collector.
   *
   * @param {Slot} slot leased
   * @param {ArrayBuffer} arrayBuffer the slot's
   * @param {ArrayBufferView | ArrayBuffer} view
   */
  #releaseUnpooled(slot, arrayBuffer, view) {
    const last = this.#detaches ? this.#moved(arrayBuffer, view) : arrayBuffer
    if (this.#cache.scrubs) zero(last)
    slot.words[slot.at + STATE] = IDLE
    const { guard } = slot
    slot.forget()
    this.#cache.bookUnpooledRelease()
    // Before the memory goes: then V8 may give its address to another thread.
    native.releaseUnpooled(this.#cache.attachment, last, this.#detaches)
    if (this.#detaches) detach(last)
    // Until the ArrayBuffer goes, the core knows that its memory was released.
    else slot.guard = guard
  }

  /**
   * The memory of a leased ArrayBuffer in one that no other code knows: what then is done with it can't fail. Where the
   * runtime can't move memory, the ArrayBuffer itself.
   *
   * @param {ArrayBuffer} arrayBuffer
   * @param {ArrayBufferView | ArrayBuffer} view
   */
  #moved(arrayBuffer, view) {
    if (transfer === undefined) return arrayBuffer
    try {
      // Node would abort on one that the user has marked as untransferable; this throws.
      return transfer(arrayBuffer)
    } catch {
      throw new errors.Undetachable(this.#name, view)
    }
  }

  /**
   * Releases a block by an ArrayBuffer that it was moved to: posted here, or transferred.
   *
   * @param {ArrayBuffer} arrayBuffer
   * @param {ArrayBufferView | ArrayBuffer} view
   */
  #releaseElsewhere(arrayBuffer, view) {
    const state = this.#stateElsewhere(arrayBuffer)
    if (state === RELEASED) throw new errors.AlreadyReleased(this.#name, view)
    if (state < LEASED_ELSEWHERE) throw new errors.NotPooled(this.#name, view)
    const last = this.#moved(arrayBuffer, view)
    if (state === LEASED_UNPOOLED && this.#cache.scrubs) zero(last)
    if (!native.releaseRemotely(this.#cache.attachment, last)) {
      throw new errors.AlreadyReleased(this.#name, view)
    }
    this.#cache.trimmer.onWake()
  }

  /**
   * What the core knows of an ArrayBuffer that carries no slot of ours.
   *
   * @param {unknown} value
   */
  #stateElsewhere(value) {
    if (!isArrayBuffer(value)) return -1
    return native.stateOf(this.#cache.attachment, value)
  }
}

/**
 * Detaches an ArrayBuffer of V8's that nobody has marked as untransferable.
 *
 * @param {ArrayBuffer} arrayBuffer
 */
function detach(arrayBuffer) {
  if (transfer === undefined) native.discard(arrayBuffer)
  else transfer(arrayBuffer, 0)
}

// As they are now: for the rest of this library, which other code must not come between.
const release = uncurry(BufferPool.prototype.release)
const owns = uncurry(BufferPool.prototype.owns)
bindRelease(release)
markAsOurs(BufferPool)

const calls = /** @type {any} */ (BufferPool.prototype)
addEntries(calls.allocUnsafe, calls.alloc, calls.lease, calls.acquire, calls.acquireLease)
addEntries(calls.byteBuffer)

/**
 * One call of `acquire` or `acquireLease`: a request that a signal can end.
 *
 * The signal is the user's, and may call back at any time: while it is listened to, and while it is no longer.
 */
class Acquiring {
  #zeroed
  #signal
  #resolve
  #reject
  #isSettled = false
  /** Ends the request. */
  #cancel = () => {}

  /**
   * @param {BufferPool} pool
   * @param {number} size
   * @param {boolean} zeroed
   * @param {AbortSignal | undefined} signal
   * @param {(lease: Lease) => void} resolve
   * @param {(reason: unknown) => void} reject
   */
  constructor(pool, size, zeroed, signal, resolve, reject) {
    this.#zeroed = zeroed
    this.#signal = signal
    this.#resolve = resolve
    this.#reject = reject
    this.#cancel = requestLease(pool, size, this.#onLease, this.#onError, this.#listen)
    // It may have fired while the request was made, and nothing could be cancelled yet.
    if (signal?.aborted) this.#onAbort()
    if (this.#isSettled) this.#cancel()
  }

  #listen = () => {
    this.#signal?.addEventListener('abort', this.#onAbort)
    // It may have fired before anyone listened, or within that call: then nobody waits.
    if (this.#signal?.aborted) throw new errors.Abort(this.#signal.reason)
  }

  /** @param {Lease} lease */
  #onLease = (lease) => {
    // A formatter of stacks may have aborted on the way.
    if (this.#signal?.aborted) this.#onAbort()
    if (!this.#settle()) return endLease(lease)
    if (this.#zeroed) runtime.zeroWhole(bufferOf(lease))
    this.#resolve(lease)
  }

  /** @param {unknown} reason */
  #onError = (reason) => {
    if (this.#settle()) this.#reject(reason)
  }

  #onAbort = () => {
    if (!this.#settle()) return
    this.#cancel()
    this.#reject(new errors.Abort(this.#signal?.reason))
  }

  /** Whether this is the first outcome. */
  #settle() {
    if (this.#isSettled) return false
    this.#isSettled = true
    try {
      this.#signal?.removeEventListener('abort', this.#onAbort)
    } catch {
      // The outcome is told all the same.
    }
    return true
  }
}

/** @param {Lease} lease */
const itself = (lease) => lease

/** @param {Buffer} buffer just leased */
function leaseOf(buffer) {
  return new Lease(buffer, /** @type {Slot} */ (slotOf(arrayBufferOf(buffer))))
}

/** What a handle says that it is. */
const HANDLE_TYPE = 'cistern.pool'

/**
 * The key of a handle.
 *
 * @param {unknown} handle
 */
function keyOf(handle) {
  if (typeof handle !== 'object' || handle === null) {
    throw new errors.InvalidArgType('handle', 'the handle of a pool', handle)
  }
  const { type, key } = /** @type {Record<string, unknown>} */ (handle)
  if (type !== HANDLE_TYPE || typeof key !== 'string') {
    throw new errors.InvalidHandle('it is no handle', handle)
  }
  // One pool, one key.
  return key.toLowerCase()
}

/** @param {unknown} options */
function checkAcquire(options) {
  checkOptions(options, ACQUIRE_OPTIONS)
  const { zero: zeroed = false, signal } = /** @type {import('../..').AcquireOptions} */ (options)
  checkBoolean('options.zero', zeroed)
  checkSignal(signal)
  return { zero: zeroed, signal }
}

/** @param {any} size */
function isSize(size) {
  return isInteger(size) && size >= 0 && size <= MAX_LENGTH
}

/** This thread's end of the process's own pool. */
function openShared() {
  const attachment = native.openShared(toSettings({ name: 'shared' }))
  const key = native.handle(attachment)
  const here = ends.find(key)
  if (here !== undefined) return here
  const pool = new BufferPool(undefined, ATTACHED, attachment)
  ends.add(key, pool)
  cacheOf(pool).isShared = true
  return pool
}

module.exports = {
  BufferPool,
  canEverHold,
  isPool,
  leaseFrom,
  openShared,
  owns,
  cacheOf,
  release,
  requestLease
}
