'use strict'

/**
 * Requests that may wait: the pool serves each at once, or after the requests before it.
 */

const { OwnPromise, resolveWith } = require('../runtime/intrinsics')
const { checkOptions } = require('./check-options')
const { Abort, Closed } = require('./errors')
const { bufferOf, endLease, leaseOf } = require('./lease')
const { checkBoolean, checkSignal } = require('./options')
const {
  canEverHold,
  exhausted,
  isSize,
  leaseSlowly,
  publishExhausted,
  zeroAsAsked
} = require('./slow-lease')
const { leaseUnpooled } = require('./unpooled')

/**
 * @typedef {import('../cache/thread-cache').ThreadCache} ThreadCache
 * @typedef {import('./lease').Lease} Lease
 */

const OPTIONS = ['zero', 'signal']

/**
 * Makes the promise of `acquire` or `acquireLease`.
 *
 * @template {object} Result
 * @param {ThreadCache} cache
 * @param {number} size
 * @param {unknown} options
 * @param {(lease: Lease) => Result} resultOf makes of the lease what the user gets
 * @returns {Promise<Result>}
 */
function acquire(cache, size, options, resultOf) {
  // This is no `async` function: an `await` shows its promise, and so a lease, to code that watches
  // the class of promises.
  /** @type {(result: Result) => void} */
  let resolve = () => {}
  /** @type {(reason: unknown) => void} */
  let reject = () => {}
  const promise = new OwnPromise((resolveIt, rejectIt) => {
    resolve = resolveIt
    reject = rejectIt
  })
  const settle = (/** @type {Lease} */ lease) => resolveWith(resolve, resultOf(lease))
  try {
    const { zero, signal } = checkAcquire(options)
    if (signal?.aborted) throw new Abort(signal.reason)
    if (isSize(size) && size > 0) new Acquiring(cache, size, zero, signal, settle, reject)
    else settle(leaseOf(leaseSlowly(cache, size, zero)))
  } catch (error) {
    reject(error)
  }
  return promise
}

/** @param {unknown} options */
function checkAcquire(options) {
  checkOptions(options, OPTIONS)
  const { zero = false, signal } = /** @type {import('../..').AcquireOptions} */ (options)
  checkBoolean('options.zero', zero)
  checkSignal(signal)
  return { zero, signal }
}

/**
 * Requests a block, and calls back once, perhaps before it returns.
 *
 * @param {ThreadCache} cache
 * @param {number} size whole, from 1 up
 * @param {(lease: Lease) => void} onLease
 * @param {(reason: unknown) => void} onError also with the error that `onWait` throws
 * @param {() => void} [onWait] called before the request joins the queue; it may cancel
 * @returns {() => void} cancels the request: neither is called after that
 */
function request(cache, size, onLease, onError, onWait) {
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
    if (ticket !== 0) cache.waiting.cancel(ticket)
  }
  try {
    if (cache.isClosed) throw new Closed(cache.name)
    if (!canEverHold(cache, size)) throw exhausted(cache, size)
    const lease =
      size > cache.largest ? leaseOf(leaseUnpooled(cache, size, false)) : cache.tryLease(size)
    if (lease !== undefined) {
      serve(lease)
    } else {
      publishExhausted(cache, size, 'wait')
      onWait?.()
      if (!isOver) ticket = cache.wait(size, serve, refuse)
      // That call can run other code, such as a formatter of stacks, which has cancelled the
      // request before its ticket was known.
      if (isOver && ticket !== 0) cache.waiting.cancel(ticket)
    }
  } catch (error) {
    refuse(error)
  }
  return cancel
}

/**
 * A request that a signal can end.
 *
 * The signal is the user's. It may call back at any time, also within the calls that add a listener
 * and remove it.
 */
class Acquiring {
  #zeroed
  #signal
  #resolve
  #reject
  #isSettled = false
  /** Cancels the request. */
  #cancel = () => {}

  /**
   * @param {ThreadCache} cache
   * @param {number} size
   * @param {boolean} zeroed
   * @param {AbortSignal | undefined} signal
   * @param {(lease: Lease) => void} resolve
   * @param {(reason: unknown) => void} reject
   */
  constructor(cache, size, zeroed, signal, resolve, reject) {
    this.#zeroed = zeroed
    this.#signal = signal
    this.#resolve = resolve
    this.#reject = reject
    this.#cancel = request(cache, size, this.#onLease, this.#onError, this.#listen)
    // The signal may have fired during the request, when nothing could be cancelled yet.
    if (signal?.aborted) this.#onAbort()
    if (this.#isSettled) this.#cancel()
  }

  #listen = () => {
    this.#signal?.addEventListener('abort', this.#onAbort)
    // It may have fired before anyone listened, or within that call: then the request does not
    // wait.
    if (this.#signal?.aborted) throw new Abort(this.#signal.reason)
  }

  /** @param {Lease} lease */
  #onLease = (lease) => {
    // A formatter of stacks may have aborted meanwhile.
    if (this.#signal?.aborted) this.#onAbort()
    if (!this.#settle()) return endLease(lease)
    zeroAsAsked(bufferOf(lease), this.#zeroed)
    this.#resolve(lease)
  }

  /** @param {unknown} reason */
  #onError = (reason) => {
    if (this.#settle()) this.#reject(reason)
  }

  #onAbort = () => {
    if (!this.#settle()) return
    this.#cancel()
    this.#reject(new Abort(this.#signal?.reason))
  }

  /** @returns {boolean} whether this is the first outcome */
  #settle() {
    if (this.#isSettled) return false
    this.#isSettled = true
    try {
      this.#signal?.removeEventListener('abort', this.#onAbort)
    } catch {
      // The outcome stands nevertheless.
    }
    return true
  }
}

module.exports = { acquire, request }
