'use strict'

/**
 * Ends a writable with a pooled Buffer, which is released when nothing reads that memory any more.
 *
 * | writable | what shows it |
 * |---|---|
 * | an HTTP/1 message | it has finished over a connection that lives, or that is closed |
 * | a socket, a file stream, an http2 stream over TLS | it calls back for the write |
 *
 * Any other gets a copy: `borrowers.js` tells why.
 */

const { isUint8Array } = require('node:util').types
const { AlreadyReleased, InvalidArgType, InvalidArgValue, NotPooled } = require('../errors')
const { Lease } = require('../lease')
const { arrayBufferOf } = require('../runtime')
const { slotOf } = require('../tag')
const { kindOf } = require('./borrowers')
const { checkPool, checkWritable } = require('./checks')
const { onClosed } = require('./connection')
const { watchReset } = require('./http2-reset')

/** ArrayBuffers of blocks that are on their way out. */
const underWay = new WeakSet()

/**
 * @template Res
 * @param {import('../buffer-pool').BufferPool} pool
 * @param {Res} res
 * @param {Buffer} buffer
 * @returns {Res}
 */
function end(pool, res, buffer) {
  checkPool(pool)
  checkWritable('res', res)
  checkLeased(pool, buffer)
  const departure = new Departure(pool, buffer)
  // Node writes a corked message in another order than it tells when it has finished.
  const kind = /** @type {any} */ (res).writableCorked > 0 ? undefined : kindOf(res)
  watchReset(res)
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
   * @param {import('../buffer-pool').BufferPool} pool
   * @param {Buffer} buffer leased
   */
  constructor(pool, buffer) {
    const arrayBuffer = arrayBufferOf(buffer)
    if (underWay.has(arrayBuffer)) {
      throw new InvalidArgValue('buffer', 'must not be on its way out already', buffer)
    }
    const slot = slotOf(arrayBuffer)
    this.#pool = pool
    this.#arrayBuffer = arrayBuffer
    // One that came from another thread has none.
    this.#lease = slot && new Lease(buffer, slot)
    underWay.add(arrayBuffer)
  }

  /** Releases the Buffer, once. */
  complete = () => {
    if (this.#isComplete) return
    this.#isComplete = true
    underWay.delete(this.#arrayBuffer)
    try {
      if (this.#lease !== undefined) this.#lease.release()
      else if (this.#pool.owns(this.#arrayBuffer)) this.#pool.release(this.#arrayBuffer)
    } catch {
      // Marked as untransferable on its way: it comes back when it is collected.
    }
  }
}

/**
 * @param {any} res
 * @param {Buffer} buffer
 * @param {Departure} departure
 */
function endWithCopy(res, buffer, departure) {
  const copy = Buffer.from(buffer)
  departure.complete()
  res.end(copy)
}

/**
 * An HTTP/1 message has finished when the last of it has gone to the operating system; but some Nodes
 * say so, too, when its connection was destroyed, and that may still be under way. One that is closed
 * may have left its connection behind, with what that has still to send.
 *
 * @param {any} message
 * @param {Buffer} buffer
 * @param {Departure} departure
 */
function endMessage(message, buffer, { complete }) {
  const { socket } = message
  if (message.writableEnded || message.destroyed || socket?.destroyed) {
    endUntaken(message, buffer, complete)
    return
  }
  const connectionOf = () => socket ?? message.socket
  const onFinish = () => {
    stop()
    const connection = connectionOf()
    if (connection?.destroyed) whenClosed(connection, complete)
    else complete()
  }
  const onClose = () => {
    stop()
    const connection = connectionOf()
    if (connection?.writableLength > 0) whenClosed(connection, complete)
    else complete()
  }
  const stop = () => {
    message.removeListener('finish', onFinish)
    message.removeListener('close', onClose)
  }
  message.on('finish', onFinish)
  message.on('close', onClose)
  try {
    message.end(buffer)
  } catch (error) {
    // Node may have taken the Buffer all the same, and send it yet.
    if (message.writableLength < buffer.length) onClose()
    throw error
  }
}

/**
 * @param {import('node:net').Socket} connection
 * @param {() => void} callback
 */
function whenClosed(connection, callback) {
  if (connection.closed) callback()
  else onClosed(connection, callback)
}

/**
 * A stream calls back for a write when it is done with it, and for its end when that, or its own, has
 * come.
 *
 * @param {import('node:stream').Writable} stream
 * @param {Buffer} buffer
 * @param {Departure} departure
 */
function endStream(stream, buffer, { complete }) {
  let isWritten = false
  let hasEnded = false
  try {
    stream.write(buffer, (error) => {
      isWritten = true
      if (error || hasEnded) complete()
    })
    stream.end(() => {
      hasEnded = true
      if (isWritten) complete()
    })
  } catch (error) {
    complete()
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
  if (res.writableEnded || res.stream.destroyed) {
    endUntaken(res, buffer, complete)
    return
  }
  try {
    res.write(buffer, complete)
    res.end()
  } catch (error) {
    complete()
    throw error
  }
}

/**
 * Ends a writable that takes no Buffer any more: what it says to that is Node's.
 *
 * @param {any} res
 * @param {Buffer} buffer
 * @param {() => void} complete
 */
function endUntaken(res, buffer, complete) {
  try {
    res.end(buffer)
  } finally {
    complete()
  }
}

/**
 * How a writable is ended, by its kind.
 *
 * @type {Record<import('./borrowers').Kind | 'other',
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
 * @param {import('../buffer-pool').BufferPool} pool
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
