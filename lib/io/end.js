'use strict'

/**
 * Ends a writable with a pooled Buffer, which is released when nothing reads that memory any more.
 *
 * | writable | what shows it |
 * |---|---|
 * | an HTTP/1 message | neither it nor its connection has anything to send: `sending.js` |
 * | a socket, a file stream, an http2 stream over TLS | it calls back for the write |
 *
 * Any other gets a copy: `writable-kinds.js` tells why.
 */

const { Buffer } = require('node:buffer')
const { Socket } = require('node:net')
const { isUint8Array } = require('node:util').types
const { owns, cacheOf, release } = require('../pool/buffer-pool')
const { AlreadyReleased, InvalidArgType, InvalidArgValue, NotPooled } = require('../pool/errors')
const { Lease, endLease, isOver } = require('../pool/lease')
const {
  allocUnsafeSlow,
  arrayBufferOf,
  lengthOf: lengthOfBytes,
  setBytes,
  uncurry
} = require('../runtime/intrinsics')
const { slotOf } = require('../cache/tag')
const { kindOf } = require('./writable-kinds')
const { checkPool, checkWritable } = require('./checks')
const { detaches } = require('./detaches')
const { watchReset } = require('./http2-reset')
const { Sending } = require('./sending')
const {
  endMessage: endByNode,
  isDestroyed,
  isWritable,
  lengthOf,
  maySendYet,
  socketOf,
  writeStream
} = require('./stream-state')

/** For a writable that takes nothing any more. */
const NOTHING = Buffer.alloc(0)

/** ArrayBuffers of blocks that are on their way out. */
const underWay = new WeakSet()

// As they were when cistern was loaded: a Buffer that goes out twice would be released by the first.
const isIn = uncurry(WeakSet.prototype.has)
const putIn = uncurry(WeakSet.prototype.add)
const takeOut = uncurry(WeakSet.prototype.delete)

/**
 * @template Res
 * @param {import('../pool/buffer-pool').BufferPool} pool
 * @param {Res} res
 * @param {Buffer} buffer
 * @returns {Res}
 */
function end(pool, res, buffer) {
  checkPool(pool)
  checkWritable('res', res)
  checkLeased(pool, buffer)
  const departure = new Departure(pool, buffer)
  let kind
  try {
    // Node writes a corked message in another order than it tells when it has finished.
    kind = /** @type {any} */ (res).writableCorked > 0 ? undefined : kindOf(res)
    watchReset(res)
    // The response is the user's, and so may be what was asked of it.
    if (departure.isOver) throw new AlreadyReleased(cacheOf(pool).name, buffer, 'buffer')
  } catch (error) {
    departure.complete()
    throw error
  }
  endWith[kind ?? 'other'](res, buffer, departure)
  return res
}

/** A Buffer on its way out. */
class Departure {
  #pool
  #arrayBuffer
  #lease
  #isComplete = false

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {Buffer} buffer leased
   */
  constructor(pool, buffer) {
    const arrayBuffer = arrayBufferOf(buffer)
    if (isIn(underWay, arrayBuffer)) {
      throw new InvalidArgValue('buffer', 'must not be on its way out already', buffer)
    }
    const slot = slotOf(arrayBuffer)
    this.#pool = pool
    this.#arrayBuffer = arrayBuffer
    // One that came from another thread has none.
    this.#lease = slot && new Lease(buffer, slot)
    putIn(underWay, arrayBuffer)
  }

  /** Whether other code has released the Buffer. */
  get isOver() {
    if (this.#lease !== undefined) return isOver(this.#lease)
    return !owns(this.#pool, this.#arrayBuffer)
  }

  /** Releases the Buffer, once. */
  complete = () => {
    if (!this.#leave()) return
    try {
      if (this.#lease !== undefined) endLease(this.#lease)
      else if (owns(this.#pool, this.#arrayBuffer)) release(this.#pool, this.#arrayBuffer)
    } catch {
      // Marked as untransferable on its way: it comes back when it is collected.
    }
  }

  /**
   * Releases the Buffer, unless it may still be sent: then the next owner's bytes would be, where release leaves the
   * ArrayBuffer as it is. So there the collector finds it.
   *
   * @param {boolean} isFree whether it is known that it will not be sent
   */
  settle = (isFree) => {
    if (isFree || detaches(this.#pool)) this.complete()
    else this.#leave()
  }

  /** Whether this is the first outcome. */
  #leave() {
    if (this.#isComplete) return false
    this.#isComplete = true
    takeOut(underWay, this.#arrayBuffer)
    return true
  }
}

/**
 * @param {any} res
 * @param {Buffer} buffer
 * @param {Departure} departure
 */
function endWithCopy(res, buffer, departure) {
  const copy = allocUnsafeSlow(lengthOfBytes(buffer))
  setBytes(copy, buffer, 0)
  departure.complete()
  res.end(copy)
}

/**
 * @param {any} message
 * @param {Buffer} buffer
 * @param {Departure} departure
 */
function endMessage(message, buffer, { complete, settle }) {
  const socket = socketOf(message)
  if (message.finished || message.destroyed || (socket && isDestroyed(socket))) {
    endUntaken(message, complete)
    return
  }
  let sending
  try {
    sending = new Sending(message, settle)
    endByNode(message, buffer)
    sending.begin()
  } catch (error) {
    // Node may have taken the Buffer all the same, and send it yet.
    if (sending === undefined) complete()
    else sending.look()
    throw error
  }
}

/**
 * A stream calls back for a write when it is done with it, and for its end when that, or its own, has
 * come.
 *
 * @param {import('node:stream').Writable} stream
 * @param {Buffer} buffer
 * @param {Departure} departure
 */
function endStream(stream, buffer, { complete, settle }) {
  if (!isWritable(stream)) {
    endUntaken(stream, complete)
    return
  }
  let isWritten = false
  let hasEnded = false
  try {
    writeStream(stream, buffer, (/** @type {Error | null} */ error) => {
      isWritten = true
      if (error) settle(!(stream instanceof Socket && maySendYet(stream)))
      else if (hasEnded) complete()
    })
    stream.end(() => {
      hasEnded = true
      if (isWritten) complete()
    })
  } catch (error) {
    // It may have taken the Buffer all the same: then it calls back for that alone.
    hasEnded = true
    if (isWritten || lengthOf(stream) === 0) complete()
    throw error
  }
}

/**
 * An http2 response says that it has finished whenever its stream is closed. The stream calls back for
 * the write, sooner or later.
 *
 * @param {import('node:http2').Http2ServerResponse} res
 * @param {Buffer} buffer
 * @param {Departure} departure
 */
function endHttp2Response(res, buffer, { complete }) {
  const { stream } = res
  if (res.writableEnded || !isWritable(stream)) {
    endUntaken(res, complete)
    return
  }
  try {
    res.write(buffer, complete)
    res.end()
  } catch (error) {
    // It may have taken the Buffer all the same.
    if (lengthOf(stream) === 0) complete()
    throw error
  }
}

/**
 * Ends a writable that takes no Buffer any more: what it says to that is Node's.
 *
 * @param {any} res
 * @param {() => void} complete
 */
function endUntaken(res, complete) {
  complete()
  res.end(NOTHING)
}

/**
 * How a writable is ended, by its kind.
 *
 * @type {Record<import('./writable-kinds').Kind | 'other',
 *   (res: any, buffer: Buffer, departure: Departure) => void>}
 */
const endWith = {
  message: endMessage,
  stream: endStream,
  'http2 stream': endStream,
  'http2 response': endHttp2Response,
  other: endWithCopy
}

/**
 * @param {import('../pool/buffer-pool').BufferPool} pool
 * @param {unknown} buffer
 */
function checkLeased(pool, buffer) {
  if (!isUint8Array(buffer)) {
    throw new InvalidArgType('buffer', 'an instance of Buffer or Uint8Array', buffer)
  }
  if (pool.owns(buffer)) return
  const { name } = pool.stats()
  const isBack = slotOf(arrayBufferOf(buffer))?.pool === pool
  throw new (isBack ? AlreadyReleased : NotPooled)(name, buffer, 'buffer')
}

module.exports = { end }
