'use strict'

/**
 * Which writables can be lent memory.
 *
 * A stream's callback says that it takes more. It does not say that it is done with what it has: a
 * PassThrough hands the very chunk on, and a stream of a user's may collect them. Of Node's own it is known:
 *
 * | writable | is done with a chunk |
 * |---|---|
 * | a socket, a file stream | when it has called back, or is closed |
 * | an http message on a socket | when it has called back, or its socket is closed |
 * | an http2 stream over TLS, which copies | when it has called back |
 * | an http2 stream without TLS | can't be told: frames of one that was reset may be under way |
 */

const { WriteStream } = require('node:fs')
const { OutgoingMessage } = require('node:http')
const { Socket } = require('node:net')
const { Duplex, Writable } = require('node:stream')

/** Others have streams of their own under these names. */
const isNode = !('bun' in process.versions) && !('deno' in process.versions)

// As they were when cistern was loaded: who puts another in their place may keep the chunk.
const { write: writeMessage } = OutgoingMessage.prototype
const { write: writeStream } = Writable.prototype
const socketMethods = methodsOf(Socket.prototype)
const fileMethods = methodsOf(WriteStream.prototype)

/** @param {any} stream */
function methodsOf({ write, _write, _writev }) {
  return { write, _write, _writev }
}

/**
 * @param {any} stream
 * @param {ReturnType<typeof methodsOf>} methods
 */
function has(stream, { write, _write, _writev }) {
  return stream.write === write && stream._write === _write && stream._writev === _writev
}

/**
 * Whether a writable is done with a chunk when it has called back.
 *
 * @param {any} writable
 */
function borrows(writable) {
  if (!isNode || isCorked(writable)) return false
  if (isMessage(writable)) {
    return writable.write === writeMessage && isPlainSocket(writable.socket)
  }
  if (writable instanceof Socket) return has(writable, socketMethods)
  if (writable instanceof WriteStream) return has(writable, fileMethods)
  return isEncrypted(writable) || isEncryptedResponse(writable)
}

/**
 * Whether a writable calls back for each write. One whose method other code has put there may not:
 * express's compression does not.
 *
 * @param {any} writable
 */
function callsBack(writable) {
  const { write } = writable
  return (write === writeStream || write === writeMessage) && !isCorked(writable)
}

/**
 * Whether a writable that is closed is done with what it was lent.
 *
 * @param {unknown} writable
 */
function isDoneWhenClosed(writable) {
  return writable instanceof Socket || writable instanceof WriteStream
}

/**
 * Whether a writable does nothing until its user lets it.
 *
 * @param {any} writable
 */
function isCorked({ writableCorked }) {
  return writableCorked > 0
}

/**
 * @param {unknown} writable
 * @returns {writable is OutgoingMessage}
 */
function isMessage(writable) {
  return writable instanceof OutgoingMessage
}

/** @param {unknown} socket */
function isPlainSocket(socket) {
  return socket instanceof Socket && has(socket, socketMethods)
}

/**
 * Whether this is an http2 stream over TLS that can be written to at once. Its class has no public name.
 *
 * @param {any} stream
 */
function isEncrypted(stream) {
  if (!(stream instanceof Duplex) || stream.write !== writeStream) return false
  if (Object.hasOwn(stream, '_write') || Object.hasOwn(stream, '_writev')) return false
  const { destroyed, pending, rstCode, session } = /** @type {any} */ (stream)
  return rstCode !== undefined && session?.encrypted === true && !pending && !destroyed
}

/** @param {any} res */
function isEncryptedResponse(res) {
  if (res instanceof Writable || !isEncrypted(res.stream)) return false
  // Only here: it takes a while to load.
  const { Http2ServerResponse } = require('node:http2')
  return res.write === Http2ServerResponse.prototype.write
}

module.exports = { borrows, callsBack, isDoneWhenClosed, isMessage }
