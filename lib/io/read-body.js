'use strict'

/**
 * The whole body of a request in one pooled block.
 *
 * - After the promise is settled, no listener of ours is on the request. After it is rejected,
 *   nothing is leased.
 * - Other code may run within any method or getter of the request or the signal, and within each
 *   lease and release. It may end the reading, and may give it chunks. So a reading looks at its
 *   own state again after each such call.
 */

const { constants } = require('node:buffer')
const { IncomingMessage } = require('node:http')
const { addEntries } = require('../cache/call-site')
const { BodyUsed, PrematureClose } = require('../pool/errors')
const { closeOff } = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')
const { Body } = require('./body')
const { announcedBy, bytesOf, flawOf, isBodiless, isBroken } = require('./body-state')
const {
  checkInteger,
  checkLimit,
  checkOptions,
  checkPool,
  checkReadable,
  checkSignal
} = require('./checks')
const { offClosed, onClosed } = require('./connection')
const { discardBody } = require('./discard-body')
const { watchReset } = require('./http2-reset')
const { Operation, quietly } = require('./operation')

const { min } = Math

/** The most bytes of a body by default: 16 MiB. */
const LIMIT = 16 * 1024 * 1024

/**
 * @typedef {import('../pool/buffer-pool').BufferPool} BufferPool
 * @typedef {import('../pool/lease').Lease} Lease
 */

/**
 * @param {BufferPool} pool
 * @param {import('node:stream').Readable} req
 * @param {import('.').ReadBodyOptions} [options]
 * @returns {Promise<Lease>}
 */
async function readBody(pool, req, options = {}) {
  checkPool(pool)
  checkReadable('req', req)
  checkOptions(options, ['limit', 'length', 'signal'])
  const { limit = LIMIT, length, signal } = options
  checkLimit('options.limit', limit)
  if (length !== undefined) checkInteger('options.length', length, 0)
  checkSignal(signal)
  const reading = new Reading(pool, req, min(limit, constants.MAX_LENGTH), length, signal)
  // `await`, because a plain return would look up `then`, which other code may have patched.
  return await reading.start()
}

/** Reads a request into a `Body`. */
class Reading {
  #req
  /** @type {Operation<Lease>} */
  #operation
  #body
  #hasBegun = false
  #hasEnded = false
  #isPaused = false
  /**
   * The socket of an HTTP/1 message.
   *
   * @type {import('node:net').Socket | undefined}
   */
  #connection
  #unwatchReset = () => {}

  /**
   * @param {BufferPool} pool
   * @param {any} req
   * @param {number} limit
   * @param {number | undefined} length the length that the caller has given
   * @param {AbortSignal | undefined} signal
   */
  constructor(pool, req, limit, length, signal) {
    this.#req = req
    this.#operation = new Operation(pool, signal, this.#fail)
    this.#body = new Body(pool, this.#operation, limit, length, {
      onMoved: this.#onMoved,
      onWait: this.#pause
    })
  }

  /** Begins. Every failure rejects the promise that this returns. */
  start() {
    const operation = this.#operation
    operation.guard(this.#start)
    return operation.promise
  }

  #start = () => {
    const req = this.#req
    const flaw = flawOf(req)
    if (flaw !== undefined) return this.#refuse(flaw)
    this.#operation.listen()
    if (this.#operation.isOver) return
    this.#body.announce(announcedBy(req))
    // It ended without a byte. With any, `flawOf` would have returned an error.
    if (req.readableEnded) return this.#end()
    this.#body.checkAnnounced()
    this.#listen()
    if (this.#operation.isOver) return
    if (!this.#body.requestFirst(isBodiless(req))) this.#begin()
  }

  #listen() {
    const req = this.#req
    if (req instanceof IncomingMessage) this.#watch(req)
    if (this.#operation.isOver) return this.#unlisten()
    this.#unwatchReset = watchReset(req)
    req.on('error', this.#fail)
    req.on('close', this.#onClose)
    req.on('end', this.#onEnd)
    // Listeners of 'newListener' may have ended the reading before the last of these calls.
    if (this.#operation.isOver) this.#unlisten()
  }

  /**
   * Watches the connection of a message. Once the response has finished, Node drops the request: it
   * would discard the rest of the body, and report no end of the connection.
   *
   * @param {IncomingMessage} req
   */
  #watch(req) {
    const { socket } = req
    // A message that user code has constructed has none.
    if (!socket) return
    this.#connection = socket
    if (socket.closed) this.#onClosed()
    else onClosed(socket, this.#onClosed)
    // This gives nobody a chunk yet, but shows Node that someone reads.
    req.read(0)
  }

  #begin() {
    const req = this.#req
    // Others may have read while this call waited for memory.
    const flaw = flawOf(req)
    if (flaw !== undefined) return this.#refuse(flaw)
    if (this.#operation.isOver) return
    this.#hasBegun = true
    req.on('data', this.#onData)
    // It may have been paused.
    if (!this.#operation.isOver) req.resume()
    if (this.#operation.isOver) this.#unlisten()
  }

  /** @param {unknown} chunk */
  #onData = (chunk) => {
    this.#operation.guard(() => {
      const bytes = bytesOf(chunk, this.#req)
      // Anyone can call a listener, at any time.
      if (!this.#operation.isOver) this.#body.append(bytes)
    })
  }

  /** Pauses the request while the body waits for a larger block. */
  #pause = () => {
    this.#isPaused = true
    this.#req.pause?.()
  }

  #onMoved = () => {
    if (!this.#hasBegun) return this.#begin()
    if (this.#hasEnded) return this.#end()
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#req.resume()
  }

  #onEnd = () => this.#operation.guard(() => this.#end())

  #end() {
    if (this.#operation.isOver) return
    const req = this.#req
    // Anyone can emit the event; the state is Node's. (Streams that are not Node's may have none.)
    if (req.readableEnded === false) return
    if (isBroken(req)) return this.#fail(new PrematureClose())
    // It ended while this call waited for memory: others got the bytes.
    if (!this.#hasBegun && req.readableDidRead) return this.#refuse(new BodyUsed(req))
    if (this.#operation.isOver) return
    this.#hasEnded = true
    if (this.#hasBegun && this.#body.isMoving) return
    this.#body.checkComplete()
    this.#finish()
  }

  #onClose = () => {
    this.#operation.guard(() => {
      const req = this.#req
      if (this.#operation.isOver || this.#hasEnded) return
      // A request over HTTP/2 closes with its stream, and still gives what it has.
      if (req.destroyed || isBroken(req)) this.#fail(req.errored ?? new PrematureClose())
    })
  }

  // Where Node reports the end of the connection, its report comes first, and says more.
  #onClosed = () => {
    setImmediate(() => {
      this.#operation.guard(() => {
        const req = this.#req
        if (this.#operation.isOver || this.#connection?.closed === false) return
        if (!req.complete) this.#fail(req.errored ?? new PrematureClose())
      })
    })
  }

  #finish() {
    if (!this.#stop()) return
    try {
      this.#operation.resolve(this.#body.lease())
    } catch (error) {
      this.#body.release()
      this.#operation.reject(error)
    }
  }

  /** @param {unknown} error after which nobody reads the rest of the body */
  #fail = (error) => {
    if (this.#refuse(error)) quietly(() => discardBody(this.#req, this.#connection !== undefined))
  }

  /**
   * Rejects, and leaves the request as it is. Returns false where the reading was over before.
   *
   * @param {unknown} error
   */
  #refuse(error) {
    if (!this.#stop()) return false
    this.#body.release()
    this.#operation.reject(error)
    return true
  }

  /** Ends listening and waiting. Returns false where the reading was over before. */
  #stop() {
    if (!this.#operation.end()) return false
    this.#unlisten()
    return true
  }

  #unlisten() {
    const req = this.#req
    quietly(() => req.removeListener('error', this.#fail))
    quietly(() => req.removeListener('close', this.#onClose))
    quietly(() => req.removeListener('end', this.#onEnd))
    quietly(() => req.removeListener('data', this.#onData))
    this.#unwatchReset()
    const connection = this.#connection
    if (connection !== undefined) quietly(() => offClosed(connection, this.#onClosed))
  }
}

closeOff(Reading)

addEntries(readBody)

module.exports = { readBody }
