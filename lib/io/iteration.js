'use strict'

/**
 * An iteration over pooled chunks: its calls of `next`, served one after another, and what it has given.
 *
 * No promise here leads to a block before its user has it. Neither does a function that other code may come by, as
 * a signal's listener or a promise's `resolve`.
 */

const { Abort, AlreadyReleased } = require('../errors')
const { rackOf } = require('../buffer-pool')
const { bufferOf, endLease, isOver } = require('../lease')
const { OwnPromise, arrayBufferOf, bufferOver, lengthOf } = require('../runtime')
const { clearTimeout } = require('../timers')
const { afterPatience } = require('./patience')

const { defineProperty } = Object

/**
 * @typedef {import('../lease').Lease} Lease
 *
 * @typedef {object} Producer
 * @property {(consumer: import('./ahead').Consumer) => void} next calls it once, unless it is stopped first
 * @property {(callback: () => void) => void} stop ends it, and calls back when all is let go of
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
  #signal
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
   * @param {import('../buffer-pool').BufferPool} pool
   * @param {() => Producer} begin
   * @param {AbortSignal | undefined} signal
   */
  constructor(pool, begin, signal) {
    this.#pool = pool
    this.#begin = begin
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
      this.#serve()
    })
  }

  /** Ends it, and the leases that were given. */
  end() {
    this.#releaseGiven()
    return this.#stop()
  }

  /** Ends it, and leaves what was given to its user. */
  abandon() {
    this.#given = undefined
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
    } else if (this.#isOver) {
      endLease(lease)
    } else {
      this.#give(lease, length)
    }
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
      if (isOver(lease)) throw new AlreadyReleased(rackOf(this.#pool).name, undefined, 'chunk')
    } catch (error) {
      endLease(lease)
      this.#onError(error)
      return
    }
    this.#given = { lease, before: this.#given }
    this.#takeCall()?.resolve(secret({ done: false, value: chunk }))
    this.#serve()
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

  #stop() {
    this.#isOver = true
    if (this.#end === undefined) {
      let resolve = () => {}
      this.#end = new OwnPromise((settle) => {
        resolve = settle
      })
      this.#letGo(resolve)
    }
    return this.#end
  }

  /**
   * Tells the end when all is let go of, or after a while.
   *
   * @param {() => void} resolve
   */
  #letGo(resolve) {
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
    else this.#producer.stop(done)
    if (!isDone) timer = afterPatience(done)
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
 * A result that a promise resolves with at once: it would ask for a `then`, on a prototype that other code can
 * change, while nobody has the chunk.
 *
 * @template {object} Result
 * @param {Result} result
 * @returns {Result}
 */
function secret(result) {
  // @ts-expect-error: without a prototype, so that nobody can say what else it has
  return defineProperty(result, 'then', { __proto__: null, value: undefined })
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
