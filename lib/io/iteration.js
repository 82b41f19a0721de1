'use strict'

/**
 * An iteration over pooled chunks: its calls of `next`, served one after another, and what it has given.
 *
 * No promise here leads to a block before its user has it. Neither does a function that other code may come by, as
 * a signal's listener or a promise's `resolve`.
 */

const { Abort, AlreadyReleased, BodyTooLarge } = require('../pool/errors')
const { cacheOf } = require('../pool/buffer-pool')
const { bufferOf, endLease, isOver } = require('../pool/lease')
const {
  OwnPromise,
  arrayBufferOf,
  bufferOver,
  lengthOf,
  resolveWith
} = require('../runtime/intrinsics')
const { clearTimeout } = require('../runtime/timers')
const { afterGracePeriod } = require('./grace-period')

/**
 * @typedef {import('../pool/lease').Lease} Lease
 *
 * @typedef {object} Producer
 * @property {(consumer: import('./read-ahead').Consumer) => void} next calls it once, unless it is stopped first
 * @property {(callback: () => void) => void} stop ends it, and calls back when all is let go of
 * @property {(callback: () => void) => void} discard as `stop`, but leaves a server's request open for its answer
 * @property {() => void} abandon lets go of everything, and leaves the user's as it is
 *
 * @typedef {object} Call of `next`
 * @property {(result: IteratorResult<Buffer, any>) => void} resolve
 * @property {(reason: unknown) => void} reject
 * @property {Call | undefined} following
 *
 * @typedef {object} Given
 * @property {Lease} lease
 * @property {Given | undefined} before
 */

/**
 * Holds an iteration for the registry of dropped iterators, as long as no call is under way. A call under way is held
 * by its source; where that is garbage, both can be collected.
 */
class Hold {
  /** @type {Iteration | undefined} */
  idle
  isAbandoned = false

  /** Notes that the iterator was dropped. A call that is under way still gets its chunk. */
  abandon() {
    this.isAbandoned = true
    this.idle?.abandon()
  }
}

class Iteration {
  hold = new Hold()
  #pool
  #begin
  #limit
  #signal
  /** How many bytes have come. */
  #received = 0
  /**
   * Made when the first chunk is asked for.
   *
   * @type {Producer | undefined}
   */
  #producer
  /** @type {Call | undefined} */
  #first
  /** @type {Call | undefined} */
  #last
  /** Whether the first call is being served. */
  #isServing = false
  /**
   * What was given since it was last asked for more.
   *
   * @type {Given | undefined}
   */
  #given
  /**
   * What was given within a call of `next`. Its user has not seen it before that call returns, so that another call
   * right behind must not release it.
   *
   * @type {Given | undefined}
   */
  #givenWithin
  /** Whether a call of `next` has not returned yet. */
  #isWithin = false
  #isOver = false
  /**
   * That everything is let go of.
   *
   * @type {Promise<void> | undefined}
   */
  #end
  /**
   * What `next` is still to tell.
   *
   * @type {{ reason: unknown } | undefined}
   */
  #failure

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {() => Producer} begin
   * @param {number} limit
   * @param {AbortSignal | undefined} signal
   */
  constructor(pool, begin, limit, signal) {
    this.#pool = pool
    this.#begin = begin
    this.#limit = limit
    this.#signal = signal
    this.hold.idle = this
  }

  /** @returns {Promise<IteratorResult<Buffer, any>>} */
  next() {
    this.#releaseGiven()
    return new OwnPromise((resolve, reject) => {
      const call = { resolve, reject, following: undefined }
      if (this.#last === undefined) this.#first = call
      else this.#last.following = call
      this.#last = call
      this.hold.idle = undefined
      this.#isWithin = true
      this.#serve()
      this.#isWithin = false
    })
  }

  /** Ends it, and the leases that were given. */
  end() {
    this.#releaseGiven()
    this.#showGiven()
    this.#releaseGiven()
    return this.#stop()
  }

  /** Ends it, and leaves what was given to its user. */
  abandon() {
    this.#given = undefined
    this.#givenWithin = undefined
    if (this.#isOver) return
    this.#isOver = true
    this.#unlisten()
    this.#producer?.abandon()
  }

  /** Serves one call after another, until one has to wait. */
  #serve() {
    while (this.#first !== undefined && !this.#isServing) {
      this.#isServing = true
      if (this.#isOver) this.#tellEnd()
      else this.#ask()
    }
  }

  #ask() {
    try {
      if (this.#producer === undefined) this.#start()
    } catch (error) {
      // A web stream that another reads, or a signal of the user's.
      this.#onError(error)
      return
    }
    if (!this.#isOver) this.#producer?.next({ onChunk: this.#onChunk, onError: this.#onError })
  }

  #start() {
    this.#producer = this.#begin()
    if (this.#signal === undefined) return
    if (!this.#signal.aborted) this.#signal.addEventListener('abort', this.#onAbort)
    // Also within that call.
    if (this.#signal.aborted) this.#onAbort()
  }

  /**
   * @param {Lease | undefined} lease
   * @param {number} length
   */
  #onChunk = (lease, length) => {
    if (lease === undefined) {
      this.#stop()
      return
    }
    this.#received += length
    const isTooLarge = this.#received > this.#limit
    if (!isTooLarge && !this.#isOver) return this.#give(lease, length)
    endLease(lease)
    // To end it may have run other code.
    if (isTooLarge && !this.#isOver) this.#refuse()
  }

  /**
   * @param {Lease} lease
   * @param {number} length
   */
  #give(lease, length) {
    let chunk
    try {
      chunk = chunkOf(lease, length)
      // The class of Buffers is within reach of other code, which may have released it.
      if (isOver(lease)) throw new AlreadyReleased(cacheOf(this.#pool).name, undefined, 'chunk')
    } catch (error) {
      endLease(lease)
      this.#onError(error)
      return
    }
    if (this.#isWithin) this.#giveWithin(lease)
    else this.#given = { lease, before: this.#given }
    const call = this.#takeCall()
    if (call !== undefined) resolveWith(call.resolve, { done: false, value: chunk })
    this.#serve()
  }

  /** @param {Lease} lease */
  async #giveWithin(lease) {
    const isFirst = this.#givenWithin === undefined
    this.#givenWithin = { lease, before: this.#givenWithin }
    if (!isFirst) return
    // Before its user goes on: that waits for a promise which is resolved later.
    await undefined
    this.#showGiven()
  }

  /** Notes that the calls of `next` have returned. */
  #showGiven() {
    let given = this.#givenWithin
    this.#givenWithin = undefined
    while (given !== undefined) {
      this.#given = { lease: given.lease, before: this.#given }
      given = given.before
    }
  }

  #refuse() {
    this.#failure = {
      reason: new BodyTooLarge(this.#limit, this.#received, undefined, 'source')
    }
    this.#stop(true)
  }

  /** @param {unknown} error */
  #onError = (error) => {
    // What comes after the end comes of it.
    if (this.#isOver) return
    this.#failure = { reason: error }
    this.#stop()
  }

  #onAbort = () => {
    if (this.#isOver) return
    this.#failure = { reason: abortBy(this.#signal) }
    this.#stop()
  }

  /** Takes the call that is being served off the list. */
  #takeCall() {
    const call = this.#first
    this.#isServing = false
    if (call === undefined) return undefined
    this.#first = call.following
    if (this.#first === undefined) this.#rest()
    return call
  }

  /** Notes that nothing is under way any more. */
  #rest() {
    this.#last = undefined
    this.hold.idle = this
    if (this.hold.isAbandoned) this.abandon()
  }

  /** @param {boolean} [isRefused] whether a server's request stays open for its answer */
  #stop(isRefused = false) {
    this.#isOver = true
    if (this.#end === undefined) {
      let resolve = () => {}
      this.#end = new OwnPromise((settle) => {
        resolve = settle
      })
      this.#letGo(resolve, isRefused)
    }
    return this.#end
  }

  /**
   * Tells the end when all is let go of, or after a while.
   *
   * @param {() => void} resolve
   * @param {boolean} isRefused
   */
  #letGo(resolve, isRefused) {
    let isDone = false
    /** @type {NodeJS.Timeout | undefined} */
    let timer
    const done = () => {
      if (isDone) return
      isDone = true
      clearTimeout(timer)
      resolve()
      if (this.#isServing) this.#tellEnd()
      this.#serve()
    }
    this.#unlisten()
    if (this.#producer === undefined) done()
    else if (isRefused) this.#producer.discard(done)
    else this.#producer.stop(done)
    if (!isDone) timer = afterGracePeriod(done)
  }

  #unlisten() {
    try {
      this.#signal?.removeEventListener('abort', this.#onAbort)
    } catch {
      // The signal is the user's.
    }
  }

  #tellEnd() {
    const failure = this.#failure
    this.#failure = undefined
    const call = this.#takeCall()
    if (failure === undefined) call?.resolve({ done: true, value: undefined })
    else call?.reject(failure.reason)
  }

  #releaseGiven() {
    let given = this.#given
    this.#given = undefined
    while (given !== undefined) {
      try {
        endLease(given.lease)
      } catch {
        // The user has transferred it, or marked it as untransferable: it comes back when it is collected.
      }
      given = given.before
    }
  }
}

/**
 * The beginning of a lease's block.
 *
 * @param {Lease} lease
 * @param {number} length
 */
function chunkOf(lease, length) {
  const buffer = bufferOf(lease)
  if (lengthOf(buffer) === length) return buffer
  const arrayBuffer = /** @type {ArrayBuffer} */ (arrayBufferOf(buffer))
  return bufferOver(arrayBuffer, length)
}

/**
 * @param {AbortSignal | undefined} signal the user's
 */
function abortBy(signal) {
  try {
    return new Abort(signal?.reason)
  } catch (error) {
    return error
  }
}

module.exports = { Hold, Iteration }
