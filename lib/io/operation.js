'use strict'

const { requestLease } = require('../pool/buffer-pool')
const { Abort, PrematureClose } = require('../pool/errors')
const { OwnPromise, closeOff, resolveWith } = require('../runtime/intrinsics')
const { clearTimeout, setImmediate, setTimeout } = require('../runtime/timers')
const { giveBack } = require('./leases')

/** @typedef {import('../pool/lease').Lease} Lease */

/**
 * The longest time that an outcome waits for work under way, in ms. A read of a file takes less
 * time. A read of a FIFO may take for ever.
 */
const GRACE_PERIOD = 100

const nothing = () => {}

/**
 * One call of `cistern/io`: it listens to its caller's signal, waits for memory, and settles its
 * promise once.
 *
 *   running ──▶ over ──▶ settled
 *
 * A call that is over begins nothing new. It settles when the kernel is done with its memory, at
 * the latest after the grace period.
 *
 * Other code may run within each method and getter of the signal, and within each lease and
 * release. It may end the call. So whoever has run such code MUST look at `isOver` again.
 *
 * Only callbacks pass a lease on. No promise leads to it before its user has it, and neither does
 * the signal's listener.
 *
 * @template T
 */
class Operation {
  #pool
  #signal
  #fail
  #isOver = false
  /** Cancels the request for memory. */
  #cancel = nothing
  #promise
  /** @type {(value: any) => void} */
  #resolve = nothing
  /** @type {(reason: unknown) => void} */
  #reject = nothing

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {AbortSignal | undefined} signal
   * @param {(reason: unknown) => void} fail called when the signal fires, and with what `guard`
   *   catches
   */
  constructor(pool, signal, fail) {
    this.#pool = pool
    this.#signal = signal
    this.#fail = fail
    /** @type {Promise<T>} */
    this.#promise = new OwnPromise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  get promise() {
    return this.#promise
  }

  /** Whether the outcome is certain. */
  get isOver() {
    return this.#isOver
  }

  /**
   * Calls what may run other code. Fails with what that throws.
   *
   * @param {() => void} callback
   */
  guard(callback) {
    try {
      callback()
    } catch (error) {
      this.#fail(error)
    }
  }

  /** Listens to the signal until the call is over. Fails if the signal has fired already. */
  listen() {
    const signal = this.#signal
    if (signal === undefined) return
    this.guard(() => {
      if (!signal.aborted) signal.addEventListener('abort', this.#onAbort)
      // It may also fire within that call.
      if (signal.aborted) this.#onAbort()
    })
    // Other code may have ended the call before the signal had the listener.
    if (this.#isOver) this.#unlisten()
  }

  #unlisten() {
    quietly(() => this.#signal?.removeEventListener('abort', this.#onAbort))
  }

  #onAbort = () => {
    if (!this.#isOver) this.#fail(abortBy(this.#signal))
  }

  /**
   * Leases a block, at once or from the queue of waiters. Calls neither callback once the call is
   * over, and gives the block back.
   *
   * @param {number} size
   * @param {(lease: Lease) => void} onLease
   * @param {(reason: unknown) => void} onError
   * @param {() => void} [onWait] called before the request joins the queue
   */
  requestLease(size, onLease, onError, onWait) {
    let isWithin = true
    /** @type {(() => void) | undefined} */
    let outcomeWithin
    const follow = (/** @type {() => void} */ outcome) => {
      // An outcome that comes at once may lead to the next request. So it is handled last.
      if (isWithin) outcomeWithin = outcome
      else this.#follow(outcome)
    }
    const serve = (/** @type {Lease} */ lease) => {
      if (this.#isOver) giveBack(lease)
      else onLease(lease)
    }
    const refuse = (/** @type {unknown} */ reason) => {
      if (!this.#isOver) onError(reason)
    }
    const joinQueue = () => {
      onWait?.()
      // Nobody would be there to be served.
      if (this.#isOver) throw new PrematureClose()
    }
    const cancel = requestLease(
      this.#pool,
      size,
      (lease) => follow(() => serve(lease)),
      (reason) => follow(() => refuse(reason)),
      joinQueue
    )
    isWithin = false
    if (outcomeWithin !== undefined) this.#follow(outcomeWithin)
    // Other code may have ended the call meanwhile, for example a subscriber to
    // `cistern:exhausted`.
    else if (this.#isOver) quietly(cancel)
    else this.#cancel = cancel
  }

  /** @param {() => void} outcome */
  #follow(outcome) {
    // `#cancel` refers to the lease, and would keep a dropped block from the garbage collector.
    this.#cancel = nothing
    this.guard(outcome)
  }

  /** Stops listening and waiting. Returns false where the call was over before. */
  end() {
    if (this.#isOver) return false
    this.#isOver = true
    this.#unlisten()
    quietly(this.#cancel)
    return true
  }

  /** @param {T} value */
  resolve(value) {
    if (typeof value === 'object' && value !== null) resolveWith(this.#resolve, value)
    else this.#resolve(value)
  }

  /** @param {unknown} reason */
  reject(reason) {
    this.#reject(reason)
  }

  /**
   * Stops work under way, and then settles: once it is idle, at the latest after the grace period.
   *
   * @param {(onIdle: () => void) => void} stop
   * @param {() => void} settle called once
   */
  settleWhenIdle(stop, settle) {
    let isSettled = false
    /** @type {NodeJS.Timeout | undefined} */
    let timer
    const settleOnce = () => {
      if (isSettled) return
      isSettled = true
      clearTimeout(timer)
      settle()
    }
    stop(settleOnce)
    if (!isSettled) timer = afterGracePeriod(settleOnce)
  }
}

closeOff(Operation)

/**
 * Returns the error for a signal that has fired. Its reason is the user's, and may throw.
 *
 * @param {AbortSignal | undefined} signal
 */
function abortBy(signal) {
  try {
    return new Abort(signal?.reason)
  } catch (error) {
    return error
  }
}

/**
 * Calls back after the grace period. Events that have come by then are handled first, even where
 * the event loop was blocked for longer than that.
 *
 * @param {() => void} callback
 */
function afterGracePeriod(callback) {
  return setTimeout(() => setImmediate(callback), GRACE_PERIOD)
}

/**
 * Calls what may run other code. What that throws concerns the other code alone: the call goes on.
 *
 * @param {() => unknown} callback
 */
function quietly(callback) {
  try {
    callback()
  } catch {
    // As above.
  }
}

module.exports = { GRACE_PERIOD, Operation, afterGracePeriod, quietly }
