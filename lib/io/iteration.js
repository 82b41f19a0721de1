'use strict'

/**
 * An iteration over pooled chunks: it serves its calls of `next` one after another, and releases
 * what it has given.
 *
 * No promise here leads to a block before its user has it. Neither does a function that other code
 * can reach, such as a signal's listener or a promise's `resolve`.
 */

const { AlreadyReleased, BodyTooLarge } = require('../pool/errors')
const { cacheOf } = require('../pool/buffer-pool')
const { bufferOf, endLease, isOver } = require('../pool/lease')
const {
  OwnPromise,
  arrayBufferOf,
  bufferOver,
  lengthOf,
  resolveWith
} = require('../runtime/intrinsics')
const { giveBack } = require('./leases')
const { Operation } = require('./operation')

/**
 * @typedef {import('../pool/lease').Lease} Lease
 *
 * @typedef {object} Producer
 * @property {(consumer: import('./read-ahead').Consumer) => void} next calls the consumer once,
 *   unless the operation ends first
 * @property {(callback: () => void) => void} stop ends the source, and calls back when that is done
 * @property {(callback: () => void) => void} discard as `stop`, but leaves a server's request open
 *   for its answer
 * @property {() => void} abandon releases everything, and leaves the user's source as it is
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
 * Holds an iteration for the registry of dropped iterators while no call is under way. The source
 * holds one with a call under way; where the source is garbage, both can be collected.
 */
class Hold {
  /** @type {Iteration | undefined} */
  idle
  isAbandoned = false

  /** Notes that the iterator was dropped. A call under way still gets its chunk. */
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
  /** @type {Operation<void>} */
  #operation
  /** How many bytes have come. */
  #received = 0
  /**
   * Created by the first call of `next`.
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
   * The leases that `next` has given. Its next call releases them.
   *
   * @type {Given | undefined}
   */
  #given
  /**
   * The leases given within a call of `next`. The user sees them only when that call returns. So
   * another call right behind it MUST NOT release them.
   *
   * @type {Given | undefined}
   */
  #givenWithin
  /** Whether a call of `next` has not returned yet. */
  #isWithin = false
  #isEnding = false
  /**
   * The error that the next call of `next` rejects with.
   *
   * @type {{ reason: unknown } | undefined}
   */
  #failure

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {(operation: Operation<void>) => Producer} begin
   * @param {number} limit
   * @param {AbortSignal | undefined} signal
   */
  constructor(pool, begin, limit, signal) {
    this.#pool = pool
    this.#begin = begin
    this.#limit = limit
    this.#operation = new Operation(pool, signal, this.#onError)
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

  /** Ends the iteration and the leases that it has given. */
  end() {
    this.#releaseGiven()
    this.#showGiven()
    this.#releaseGiven()
    return this.#stop()
  }

  /** Ends the iteration, and leaves to its user what it has given. */
  abandon() {
    this.#given = undefined
    this.#givenWithin = undefined
    if (this.#operation.end()) this.#producer?.abandon()
  }

  /** Serves one call after another until one has to wait. */
  #serve() {
    while (this.#first !== undefined && !this.#isServing) {
      this.#isServing = true
      if (this.#operation.isOver) this.#settleCall()
      else this.#ask()
    }
  }

  #ask() {
    // A web stream may have another reader, for example.
    if (this.#producer === undefined) this.#operation.guard(this.#start)
    if (this.#operation.isOver) return
    this.#producer?.next({ onChunk: this.#onChunk, onError: this.#onError })
  }

  #start = () => {
    this.#producer = this.#begin(this.#operation)
    this.#operation.listen()
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
    if (!isTooLarge && !this.#operation.isOver) return this.#give(lease, length)
    endLease(lease)
    // The release may have run other code.
    if (isTooLarge && !this.#operation.isOver) this.#refuse()
  }

  /**
   * @param {Lease} lease
   * @param {number} length
   */
  #give(lease, length) {
    let chunk
    try {
      chunk = chunkOf(lease, length)
      // Other code can reach the class of Buffers, and may have released the block.
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
    // This goes on before the user does, whose promise is resolved later.
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
    // The end of an iteration may make its source fail.
    if (this.#operation.isOver) return
    this.#failure = { reason: error }
    this.#stop()
  }

  /** Removes the call that is being served from the list. */
  #takeCall() {
    const call = this.#first
    this.#isServing = false
    if (call === undefined) return undefined
    this.#first = call.following
    if (this.#first === undefined) this.#rest()
    return call
  }

  /** Notes that no call is under way any more. */
  #rest() {
    this.#last = undefined
    this.hold.idle = this
    if (this.hold.isAbandoned) this.abandon()
  }

  /** @param {boolean} [isRefused] whether a server's request stays open for its answer */
  #stop(isRefused = false) {
    const operation = this.#operation
    operation.end()
    if (!this.#isEnding) {
      this.#isEnding = true
      operation.settleWhenIdle(
        (onIdle) => this.#stopProducer(onIdle, isRefused),
        () => {
          operation.resolve()
          if (this.#isServing) this.#settleCall()
          this.#serve()
        }
      )
    }
    return operation.promise
  }

  /**
   * @param {() => void} onIdle
   * @param {boolean} isRefused
   */
  #stopProducer(onIdle, isRefused) {
    if (this.#producer === undefined) onIdle()
    else if (isRefused) this.#producer.discard(onIdle)
    else this.#producer.stop(onIdle)
  }

  /** Settles the call that is being served, after the end. */
  #settleCall() {
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
      giveBack(given.lease)
      given = given.before
    }
  }
}

/**
 * Returns a Buffer of the first bytes of a lease's block.
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

module.exports = { Hold, Iteration }
