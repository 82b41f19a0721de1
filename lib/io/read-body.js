'use strict'

/**
 * The whole body of a request in one pooled block.
 *
 * - Memory is waited for before the first byte is read, in line with everyone else. Who has a block
 *   MUST NOT wait for another, or bodies that outgrow theirs could wait for one another for ever: a
 *   larger one is had at once, from the pool or as its `onExhausted` says, or not at all.
 * - A chunk is copied once, to its place in the block, and again only when the block is outgrown.
 * - After the promise is settled nothing of ours listens to the request, and after it is rejected
 *   nothing is leased.
 */

const { constants } = require('node:buffer')
const { IncomingMessage } = require('node:http')
const { isUint8Array } = require('node:util').types
const {
  Abort,
  BodyTooLarge,
  BodyUsed,
  InvalidArgType,
  InvalidArgValue,
  LengthMismatch,
  PrematureClose
} = require('../errors')
const { Lease } = require('../lease')
const { FastBuffer, arrayBufferOf, byteLengthOf } = require('../runtime')
const { slotOf } = require('../tag')
const { checkLimit, checkOptions, checkPool, checkReadable, checkSignal } = require('./checks')
const { offClosed, onClosed } = require('./connection')
const { discardBody } = require('./discard-body')
const { wasCutOff, watchReset } = require('./http2-reset')

/** The most bytes of a body by default: 16 MiB. */
const LIMIT = 16 * 1024 * 1024

/** The first block of a body of unknown length: 16 KiB. */
const FIRST_BYTES = 16 * 1024

/** How many times larger than a block its successor is. */
const GROWTH = 2

/**
 * @param {import('../buffer-pool').BufferPool} pool
 * @param {import('node:stream').Readable} req
 * @param {import('../../io').ReadBodyOptions} [options]
 * @returns {Promise<Lease>}
 */
async function readBody(pool, req, options = {}) {
  checkPool(pool)
  checkReadable('req', req)
  checkOptions(options, ['limit', 'signal'])
  const { limit = LIMIT, signal } = options
  checkLimit('options.limit', limit)
  checkSignal(signal)
  const reading = new Reading(pool, req, Math.min(limit, constants.MAX_LENGTH), signal)
  reading.start()
  return reading.promise
}

class Reading {
  #pool
  #req
  #limit
  #signal
  /** By its Content-Length; `undefined` where that is not known. */
  #announced
  /** @type {Buffer | undefined} */
  #block
  #length = 0
  #hasBegun = false
  /**
   * Of an HTTP/1 message.
   *
   * @type {import('node:net').Socket | undefined}
   */
  #connection
  #isSettled = false
  #unwatchReset = () => {}
  /**
   * Ends the wait for memory.
   *
   * @type {AbortController | undefined}
   */
  #waiting
  /** @type {(lease: Lease) => void} */
  #resolve = () => {}
  /** @type {(reason: unknown) => void} */
  #reject = () => {}

  /**
   * @param {import('../buffer-pool').BufferPool} pool
   * @param {any} req
   * @param {number} limit
   * @param {AbortSignal | undefined} signal
   */
  constructor(pool, req, limit, signal) {
    this.#pool = pool
    this.#req = req
    this.#limit = limit
    this.#signal = signal
    this.#announced = announcedBy(req)
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  start() {
    const req = this.#req
    const flaw = flawOf(req)
    if (flaw !== undefined) return this.#refuse(flaw)
    if (this.#signal?.aborted) return this.#onAbort()
    // Without a byte, or that would have been a flaw.
    if (req.readableEnded) return this.#onEnd()
    if (this.#announced !== undefined && this.#announced > this.#limit) {
      return this.#fail(new BodyTooLarge(this.#limit, this.#announced, true))
    }
    this.#signal?.addEventListener('abort', this.#onAbort)
    if (req instanceof IncomingMessage) this.#watch(req)
    this.#unwatchReset = watchReset(req)
    req.on('error', this.#fail)
    req.on('close', this.#onClose)
    req.on('end', this.#onEnd)
    const bytes = this.#announced ?? (isBodiless(req) ? 0 : Math.min(FIRST_BYTES, this.#limit))
    if (bytes === 0) return this.#begin()
    this.#waiting = new AbortController()
    const { signal } = this.#waiting
    this.#pool.acquire(bytes, { signal }).then(this.#begin, this.#fail)
  }

  /**
   * Node lets go of a request when its response has finished: it would throw away what is still to come, and
   * tell nobody when the connection ends before that.
   *
   * @param {IncomingMessage} req
   */
  #watch(req) {
    const { socket } = req
    // Of one that was made by hand there is none.
    if (!socket) return
    this.#connection = socket
    if (socket.closed) this.#onClosed()
    else onClosed(socket, this.#onClosed)
    // Nobody is given anything yet, but Node knows that someone reads.
    req.read(0)
  }

  /** @param {Buffer} [block] */
  #begin = (block) => {
    if (this.#isSettled) {
      if (block !== undefined) this.#pool.release(block)
      return
    }
    this.#waiting = undefined
    if (block !== undefined) this.#block = wholeOf(block)
    const req = this.#req
    // Others may have read while this one waited.
    const flaw = flawOf(req)
    if (flaw !== undefined) return this.#refuse(flaw)
    this.#hasBegun = true
    req.on('data', this.#onData)
    // It may have been paused.
    req.resume()
  }

  /** @param {unknown} chunk */
  #onData = (chunk) => {
    try {
      this.#take(bytesOf(chunk, this.#req))
    } catch (error) {
      this.#fail(error)
    }
  }

  /** @param {Uint8Array} bytes */
  #take(bytes) {
    const length = this.#length + bytes.length
    if (length > this.#limit) throw new BodyTooLarge(this.#limit, length, false)
    if (this.#announced !== undefined && length > this.#announced) {
      throw new LengthMismatch(this.#announced, length)
    }
    if (bytes.length === 0) return
    let block = this.#block
    if (block === undefined || length > block.length) block = this.#grow(length)
    block.set(bytes, this.#length)
    this.#length = length
  }

  /**
   * Moves to a block for at least so many bytes.
   *
   * @param {number} bytes
   */
  #grow(bytes) {
    const outgrown = this.#block
    const wanted = Math.min(Math.max(bytes, GROWTH * (outgrown?.length ?? 0)), this.#limit)
    const block = wholeOf(this.#pool.allocUnsafe(wanted))
    this.#block = block
    if (outgrown !== undefined) {
      block.set(outgrown.subarray(0, this.#length))
      this.#pool.release(outgrown)
    }
    return block
  }

  #onEnd = () => {
    const req = this.#req
    if (isBroken(req)) return this.#fail(new PrematureClose())
    // It has ended while this one waited for memory: others got what there was.
    if (!this.#hasBegun && req.readableDidRead) return this.#refuse(new BodyUsed(req))
    if (this.#announced !== undefined && this.#length !== this.#announced) {
      return this.#fail(new LengthMismatch(this.#announced, this.#length))
    }
    this.#finish()
  }

  #onClose = () => {
    const req = this.#req
    // A request over HTTP/2 is closed when its stream is, and still gives what it has.
    if (req.destroyed || isBroken(req)) this.#fail(req.errored ?? new PrematureClose())
  }

  // Where Node tells of it, that comes first, and says more.
  #onClosed = () => {
    setImmediate(() => {
      const req = this.#req
      if (!req.complete) this.#fail(req.errored ?? new PrematureClose())
    })
  }

  #onAbort = () => this.#fail(new Abort(this.#signal?.reason))

  #finish() {
    if (!this.#settle()) return
    try {
      this.#resolve(this.#length > 0 ? this.#leaseBody() : this.#leaseNothing())
    } catch (error) {
      this.#reject(error)
    }
  }

  #leaseBody() {
    const block = /** @type {Buffer} */ (this.#block)
    const arrayBuffer = arrayBufferOf(block)
    const body = new FastBuffer(arrayBuffer, 0, this.#length)
    return new Lease(body, /** @type {import('../slot').Slot} */ (slotOf(arrayBuffer)))
  }

  #leaseNothing() {
    if (this.#block !== undefined) this.#pool.release(this.#block)
    return this.#pool.lease(0)
  }

  /** @param {unknown} error for which the rest of the body has no reader any more */
  #fail = (error) => {
    if (this.#refuse(error)) discardBody(this.#req, this.#connection !== undefined)
  }

  /**
   * @param {unknown} error
   */
  #refuse(error) {
    if (!this.#settle()) return false
    if (this.#block !== undefined) this.#pool.release(this.#block)
    this.#reject(error)
    return true
  }

  /** Ends listening. Whether that was still to be done. */
  #settle() {
    if (this.#isSettled) return false
    this.#isSettled = true
    const req = this.#req
    req.removeListener('error', this.#fail)
    req.removeListener('close', this.#onClose)
    req.removeListener('end', this.#onEnd)
    req.removeListener('data', this.#onData)
    this.#unwatchReset()
    this.#signal?.removeEventListener('abort', this.#onAbort)
    if (this.#connection) offClosed(this.#connection, this.#onClosed)
    // With a reason: to make one, with its stack, costs microseconds.
    this.#waiting?.abort(null)
    return true
  }
}

/**
 * Why a body can not be read any more; `undefined` where it can.
 *
 * @param {any} req
 */
function flawOf(req) {
  if (req.readableEnded && req.readableDidRead) return new BodyUsed(req)
  if (req.errored) return req.errored
  if (isBroken(req) || (req.destroyed && !req.readableEnded)) return new PrematureClose()
  // Who listens to 'readable' takes it away.
  if (req.readableDidRead || req.listenerCount('readable') > 0) return new BodyUsed(req)
  const { readableEncoding } = req
  if (readableEncoding) return new InvalidArgValue('req', DECODES, readableEncoding)
  return undefined
}

const DECODES = 'must give bytes, and decodes them: setEncoding() was called'

/**
 * Whether a message was cut off. An http2 request ends then, too, like one that is whole.
 *
 * @param {any} req
 */
function isBroken(req) {
  return req.aborted === true || (req.stream ?? req).rstCode > 0 || wasCutOff(req)
}

/**
 * The length that a message announces; `undefined` where it announces none.
 *
 * @param {any} req
 */
function announcedBy(req) {
  if (isBodiless(req)) return undefined
  const { 'content-length': length, 'transfer-encoding': encoding } = req.headers ?? {}
  return encoding === undefined && /^\d+$/.test(length) ? Number(length) : undefined
}

/**
 * Whether a message has no body, by what HTTP/1 says.
 *
 * @param {any} req
 */
function isBodiless(req) {
  if (!(req instanceof IncomingMessage)) return false
  const { statusCode, headers } = req
  // A server's: a request.
  if (typeof statusCode !== 'number') {
    return headers['content-length'] === undefined && headers['transfer-encoding'] === undefined
  }
  const { method } = /** @type {any} */ (req).req ?? {}
  return method === 'HEAD' || statusCode === 204 || statusCode === 304
}

/**
 * The bytes of a chunk; those of a string are UTF-8, as a writable takes them.
 *
 * @param {unknown} chunk
 * @param {any} req
 * @returns {Uint8Array}
 */
function bytesOf(chunk, req) {
  if (isUint8Array(chunk)) return chunk
  if (typeof chunk !== 'string') throw new InvalidArgType('chunk', CHUNK, chunk)
  const { readableEncoding } = req
  // The bytes that it was made of are not to be had from it.
  if (readableEncoding) throw new InvalidArgValue('req', DECODES, readableEncoding)
  return Buffer.from(chunk)
}

const CHUNK = 'of type string, or an instance of Buffer or Uint8Array'

/**
 * All of a block, also what is beyond the length asked for.
 *
 * @param {Buffer} buffer
 */
function wholeOf(buffer) {
  const arrayBuffer = arrayBufferOf(buffer)
  return new FastBuffer(arrayBuffer, 0, byteLengthOf(arrayBuffer))
}

module.exports = { readBody }
