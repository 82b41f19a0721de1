'use strict'

/**
 * The whole body of a request in one pooled block.
 *
 * - Memory follows the bytes that have arrived, whatever length is announced: see `body-size.js`.
 * - A reading that has a block MUST NOT wait for another, or bodies that outgrow theirs could wait for one another
 *   for ever. Where the length is unknown, it gets a larger block at once, from the pool or as its `onExhausted`
 *   says, or fails. Where the length is announced, it may wait: it moves the bytes to V8's memory and gives its
 *   block back before it stands in line.
 * - A chunk is copied once, to its place in the block, and again only when the block is outgrown.
 * - After the promise is settled nothing of ours listens to the request, and after it is rejected
 *   nothing is leased.
 * - Other code may run within any method or getter of the request or the signal, and within each lease and
 *   release of memory. It may end the reading, and may give it chunks. So a reading holds each block by its Lease,
 *   and looks at its own state again after each such call.
 */

const { Buffer, constants } = require('node:buffer')
const { IncomingMessage } = require('node:http')
const { addEntries } = require('../cache/call-site')
const { canEverHold, leaseFrom, cacheOf, requestLease } = require('../pool/buffer-pool')
const {
  Abort,
  AlreadyReleased,
  BodyTooLarge,
  BodyUsed,
  Closed,
  Exhausted,
  InvalidArgType,
  InvalidArgValue,
  LengthMismatch,
  NEVER,
  PrematureClose
} = require('../pool/errors')
const { Lease, bufferOf, endLease, isOver } = require('../pool/lease')
const {
  Bytes,
  bufferOver,
  resolveWith,
  OwnPromise,
  arrayBufferOf,
  closeOff,
  isUint8Array,
  lengthOf,
  setBytes
} = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')
const { slotOf } = require('../cache/tag')
const { BY_HEADER, announcedBy, isBodiless } = require('./announced')
const { firstSize, nextSize } = require('./body-size')
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
const { wasCutOff, watchReset } = require('./http2-reset')

const { max, min } = Math
const { from } = Buffer

/** The most bytes of a body by default: 16 MiB. */
const LIMIT = 16 * 1024 * 1024

const NOTHING = new Bytes(0)

/**
 * @param {import('../pool/buffer-pool').BufferPool} pool
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
  reading.start()
  // Awaited, and not returned: that would look `then` up, which other code may have patched.
  return await reading.promise
}

class Reading {
  #pool
  #cache
  #req
  #limit
  #signal
  /** The length that the caller knows. */
  #known
  /**
   * The length that the caller or the Content-Length tells; `undefined` where neither does.
   *
   * @type {number | undefined}
   */
  #announced
  /**
   * The block of the bytes so far; `undefined` before the first, and while they are in V8's memory.
   *
   * @type {Lease | undefined}
   */
  #lease
  /** All of that block, or of V8's memory. No other code sees this view. */
  #memory = NOTHING
  /** How many bytes are there. */
  #length = 0
  /**
   * The chunk that made the block too small, and its length as it was then.
   *
   * @type {Uint8Array | undefined}
   */
  #chunk
  #chunkLength = 0
  /** Whether a block is on its way. Chunks that come meanwhile go to V8's memory. */
  #isMoving = false
  #hasBegun = false
  #hasEnded = false
  #isPaused = false
  /**
   * Of an HTTP/1 message.
   *
   * @type {import('node:net').Socket | undefined}
   */
  #connection
  #isSettled = false
  #unwatchReset = () => {}
  /** Ends the request for memory. */
  #cancel = () => {}
  /** @type {(lease: Lease) => void} */
  #resolve = () => {}
  /** @type {(reason: unknown) => void} */
  #reject = () => {}

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {any} req
   * @param {number} limit
   * @param {number | undefined} known
   * @param {AbortSignal | undefined} signal
   */
  constructor(pool, req, limit, known, signal) {
    this.#pool = pool
    this.#cache = cacheOf(pool)
    this.#req = req
    this.#limit = limit
    this.#known = known
    this.#signal = signal
    /** @type {Promise<Lease>} */
    this.promise = new OwnPromise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /** Begins, and fails by the promise. */
  start() {
    this.#guard(() => this.#start())
  }

  #start() {
    const req = this.#req
    const flaw = flawOf(req)
    if (flaw !== undefined) return this.#refuse(flaw)
    if (this.#signal?.aborted) return this.#abort()
    this.#announced = this.#announcedLength()
    // Without a byte, or that would have been a flaw.
    if (req.readableEnded) return this.#end()
    this.#checkAnnounced()
    this.#listen()
    if (this.#isSettled) return
    const isEmpty = this.#announced === undefined && isBodiless(req)
    const size = isEmpty ? 0 : firstSize(this.#announced, this.#limit)
    if (size === 0) this.#begin()
    else this.#request(size)
  }

  /** Returns the length of the body as far as it is known, and throws where two are. */
  #announcedLength() {
    const byHeader = announcedBy(this.#req)
    const known = this.#known
    if (known === undefined || byHeader === undefined || known === byHeader)
      return known ?? byHeader
    throw new LengthMismatch(known, KNOWN, `a Content-Length of ${byHeader}`)
  }

  /** Throws where a body of the length that is known can't be served. */
  #checkAnnounced() {
    const announced = this.#announced
    if (announced === undefined) return
    if (announced > this.#limit) {
      const source = this.#known === undefined ? BY_HEADER : `${KNOWN} is`
      throw new BodyTooLarge(this.#limit, announced, source)
    }
    const { isClosed, name, maxBytes } = this.#cache
    if (isClosed) throw new Closed(name)
    if (announced > 0 && !canEverHold(this.#pool, announced)) {
      throw new Exhausted(name, announced, maxBytes, NEVER)
    }
  }

  #listen() {
    const req = this.#req
    const signal = this.#signal
    signal?.addEventListener('abort', this.#onAbort)
    // It may have fired before anyone listened.
    if (signal?.aborted) this.#abort()
    if (!this.#isSettled && req instanceof IncomingMessage) this.#watch(req)
    if (this.#isSettled) return this.#unlisten()
    this.#unwatchReset = watchReset(req)
    req.on('error', this.#fail)
    req.on('close', this.#onClose)
    req.on('end', this.#onEnd)
    // Listeners of 'newListener' may have ended the reading before the last of these calls.
    if (this.#isSettled) this.#unlisten()
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

  #begin() {
    const req = this.#req
    // Others may have read while this one waited.
    const flaw = flawOf(req)
    if (flaw !== undefined) return this.#refuse(flaw)
    if (this.#isSettled) return
    this.#hasBegun = true
    req.on('data', this.#onData)
    // It may have been paused.
    if (!this.#isSettled) req.resume()
    if (this.#isSettled) this.#unlisten()
  }

  /** @param {unknown} chunk */
  #onData = (chunk) => this.#guard(() => this.#take(bytesOf(chunk, this.#req)))

  /** @param {Uint8Array} bytes */
  #take(bytes) {
    // Anyone can call a listener, at any time.
    if (this.#isSettled) return
    const count = lengthOf(bytes)
    if (count === 0) return
    const arrived = this.#length + this.#chunkLength + count
    this.#checkLength(arrived)
    if (this.#isMoving) {
      this.#takeAside(bytes, count)
    } else if (arrived > lengthOf(this.#memory)) {
      this.#chunk = bytes
      this.#chunkLength = count
      this.#isMoving = true
      this.#move()
    } else {
      this.#store(bytes, count)
    }
  }

  /** @param {number} length */
  #checkLength(length) {
    if (length > this.#limit) throw new BodyTooLarge(this.#limit, length)
    const announced = this.#announced
    if (announced !== undefined && length > announced) throw this.#mismatch(announced, length)
  }

  /**
   * @param {number} announced
   * @param {number} length
   */
  #mismatch(announced, length) {
    const source = this.#known === undefined ? 'its Content-Length' : KNOWN
    return new LengthMismatch(announced, source, length)
  }

  /**
   * Appends bytes to those so far. No other code runs within.
   *
   * @param {Uint8Array} bytes
   * @param {number} count
   */
  #store(bytes, count) {
    this.#check(this.#lease)
    setBytes(this.#memory, bytes, this.#length)
    this.#length += count
  }

  /**
   * Throws where a block is another's by now. Code that has changed the class of Buffers has seen it, and can
   * release it.
   *
   * @param {Lease | undefined} lease
   */
  #check(lease) {
    if (lease !== undefined && isOver(lease)) {
      throw new AlreadyReleased(this.#cache.name, bufferOf(lease), 'body')
    }
  }

  #storeChunk() {
    const chunk = this.#chunk
    if (chunk === undefined) return
    const count = this.#chunkLength
    this.#chunk = undefined
    this.#chunkLength = 0
    if (lengthOf(chunk) !== count) throw new InvalidArgValue('chunk', MOVED, chunk)
    this.#store(chunk, count)
  }

  /**
   * Appends bytes that come while a block is on its way.
   *
   * @param {Uint8Array} bytes
   * @param {number} count
   */
  #takeAside(bytes, count) {
    const needed = this.#length + this.#chunkLength + count
    if (this.#lease !== undefined || this.#chunk !== undefined) {
      this.#moveAside(needed, () => this.#store(bytes, count))
      return
    }
    if (needed > lengthOf(this.#memory)) {
      const most = this.#announced ?? this.#limit
      this.#memory = this.#copy(min(max(needed, 2 * this.#length), most))
    }
    this.#store(bytes, count)
  }

  /**
   * Moves what has come to V8's memory, and gives the block back.
   *
   * @param {number} size
   * @param {() => void} [then] called before other code can run
   */
  #moveAside(size, then) {
    const lease = this.#lease
    this.#check(lease)
    this.#memory = this.#copy(size)
    this.#lease = undefined
    try {
      this.#storeChunk()
      then?.()
    } finally {
      if (lease !== undefined) endLease(lease)
    }
  }

  /**
   * Returns a copy of the bytes so far in V8's memory.
   *
   * @param {number} size
   */
  #copy(size) {
    const copy = new Bytes(size)
    setBytes(copy, this.#bytes(), 0)
    return copy
  }

  /** Returns a view of the bytes so far. */
  #bytes() {
    return new Bytes(/** @type {ArrayBuffer} */ (arrayBufferOf(this.#memory)), 0, this.#length)
  }

  /** Gets a block for what has come. */
  #move() {
    if (this.#announced === undefined) this.#moveAtOnce()
    else this.#request(this.#nextSize())
  }

  /** Gets a block from the pool or as its `onExhausted` says, or throws. */
  #moveAtOnce() {
    this.#moveTo(leaseFrom(this.#pool, this.#nextSize()))
  }

  #nextSize() {
    return nextSize({
      arrived: this.#length + this.#chunkLength,
      held: this.#lease === undefined ? 0 : lengthOf(this.#memory),
      announced: this.#announced,
      limit: this.#limit,
      largest: this.#cache.largest
    })
  }

  /**
   * Gets a block at once, or in line with everyone else.
   *
   * @param {number} size
   */
  #request(size) {
    this.#isMoving = true
    let isWithin = true
    // An outcome that comes at once is seen to below: it may lead to the next request.
    let seeTo = () => {}
    const settle = (/** @type {() => void} */ outcome) => {
      if (isWithin) seeTo = outcome
      else this.#guard(outcome)
    }
    this.#cancel = requestLease(
      this.#pool,
      size,
      (lease) => settle(() => this.#moveTo(lease)),
      (error) => settle(() => this.#moveWithout(error)),
      this.#onWait
    )
    isWithin = false
    if (this.#isSettled) this.#cancel()
    seeTo()
  }

  /** @param {unknown} error for which there is no block */
  #moveWithout(error) {
    // The pool can't hold such a block any more. A body of unknown length is served then as `onExhausted` says.
    if (this.#hasBegun && !this.#isSettled && error instanceof Exhausted) this.#moveAtOnce()
    else this.#fail(error)
  }

  /** Called before this stands in line. */
  #onWait = () => {
    // Others wait for what this one has.
    if (this.#hasBegun) {
      this.#isPaused = true
      this.#req.pause?.()
      if (!this.#isSettled) this.#moveAside(this.#length + this.#chunkLength)
    }
    // Nobody would be there to be served.
    if (this.#isSettled) throw new PrematureClose()
  }

  /**
   * Moves what has come to a block.
   *
   * @param {Lease} lease
   */
  #moveTo(lease) {
    let fits = false
    /** @type {Lease | undefined} */
    let surplus = lease
    try {
      if (this.#isSettled) return
      this.#check(lease)
      const memory = new Bytes(/** @type {ArrayBuffer} */ (arrayBufferOf(bufferOf(lease))))
      // More may have come while the block was on its way.
      fits = this.#length + this.#chunkLength <= lengthOf(memory)
      if (fits) {
        this.#check(this.#lease)
        setBytes(memory, this.#bytes(), 0)
        surplus = this.#lease
        this.#lease = lease
        this.#memory = memory
        this.#isMoving = false
        this.#storeChunk()
      }
    } finally {
      if (surplus !== undefined) endLease(surplus)
    }
    if (this.#isSettled) return
    if (!fits) this.#move()
    else if (!this.#hasBegun) this.#begin()
    // The release may have run code that has given more.
    else if (!this.#isMoving) this.#goOn()
  }

  #goOn() {
    if (this.#hasEnded) return this.#end()
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#req.resume()
  }

  #onEnd = () => this.#guard(() => this.#end())

  #end() {
    if (this.#isSettled) return
    const req = this.#req
    // Anyone can emit the event; the state is Node's. (Streams that are not Node's may have none.)
    if (req.readableEnded === false) return
    if (isBroken(req)) return this.#fail(new PrematureClose())
    // It has ended while this one waited for memory: others got what there was.
    if (!this.#hasBegun && req.readableDidRead) return this.#refuse(new BodyUsed(req))
    if (this.#isSettled) return
    this.#hasEnded = true
    if (this.#hasBegun && this.#isMoving) return
    const announced = this.#announced
    if (announced !== undefined && this.#length !== announced) {
      return this.#fail(this.#mismatch(announced, this.#length))
    }
    this.#finish()
  }

  #onClose = () => {
    this.#guard(() => {
      const req = this.#req
      if (this.#isSettled || this.#hasEnded) return
      // A request over HTTP/2 is closed when its stream is, and still gives what it has.
      if (req.destroyed || isBroken(req)) this.#fail(req.errored ?? new PrematureClose())
    })
  }

  // Where Node tells of it, that comes first, and says more.
  #onClosed = () => {
    setImmediate(() => {
      this.#guard(() => {
        const req = this.#req
        if (this.#isSettled || this.#connection?.closed === false) return
        if (!req.complete) this.#fail(req.errored ?? new PrematureClose())
      })
    })
  }

  #onAbort = () => this.#guard(() => this.#abort())

  #abort() {
    if (this.#isSettled) return
    this.#fail(new Abort(this.#signal?.reason))
  }

  #finish() {
    if (!this.#settle()) return
    try {
      resolveWith(this.#resolve, this.#length > 0 ? this.#leaseBody() : this.#leaseNothing())
    } catch (error) {
      this.#release()
      this.#reject(error)
    }
  }

  #leaseBody() {
    const lease = /** @type {Lease} */ (this.#lease)
    const arrayBuffer = /** @type {ArrayBuffer} */ (arrayBufferOf(this.#memory))
    this.#check(lease)
    const body = bufferOver(arrayBuffer, this.#length)
    // The class of Buffers is within reach of other code.
    this.#check(lease)
    return new Lease(body, /** @type {import('../cache/slot').Slot} */ (slotOf(arrayBuffer)))
  }

  #leaseNothing() {
    this.#release()
    return leaseFrom(this.#pool, 0)
  }

  /** @param {unknown} error for which the rest of the body has no reader any more */
  #fail = (error) => {
    if (this.#refuse(error)) quietly(() => discardBody(this.#req, this.#connection !== undefined))
  }

  /** @param {unknown} error */
  #refuse(error) {
    if (!this.#settle()) return false
    this.#release()
    this.#reject(error)
    return true
  }

  #release() {
    const lease = this.#lease
    this.#lease = undefined
    this.#chunk = undefined
    this.#memory = NOTHING
    if (lease !== undefined) quietly(() => endLease(lease))
  }

  /** Ends listening, and waiting. Returns whether that was still to be done. */
  #settle() {
    if (this.#isSettled) return false
    this.#isSettled = true
    this.#unlisten()
    quietly(this.#cancel)
    return true
  }

  #unlisten() {
    const req = this.#req
    quietly(() => req.removeListener('error', this.#fail))
    quietly(() => req.removeListener('close', this.#onClose))
    quietly(() => req.removeListener('end', this.#onEnd))
    quietly(() => req.removeListener('data', this.#onData))
    this.#unwatchReset()
    quietly(() => this.#signal?.removeEventListener('abort', this.#onAbort))
    const connection = this.#connection
    if (connection !== undefined) quietly(() => offClosed(connection, this.#onClosed))
  }

  /**
   * Calls what may run other code, and fails as that does.
   *
   * @param {() => void} callback
   */
  #guard(callback) {
    try {
      callback()
    } catch (error) {
      this.#fail(error)
    }
  }
}

closeOff(Reading)

/** How errors name the length that the caller knows. */
const KNOWN = 'options.length'

/**
 * Calls what may run other code. The outcome is told, and everything given back, whatever that throws.
 *
 * @param {() => unknown} callback
 */
function quietly(callback) {
  try {
    callback()
  } catch {
    // It concerns the other code alone.
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
  return from(chunk)
}

const CHUNK = 'of type string, or an instance of Buffer or Uint8Array'
const MOVED = 'must keep its memory, which was moved while it was read'

addEntries(readBody)

module.exports = { readBody }
