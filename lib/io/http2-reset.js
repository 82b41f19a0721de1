'use strict'

/**
 * Ends http2 streams that their peers have reset with NO_ERROR.
 *
 * After any other code Node destroys a stream, and calls back for each write. After NO_ERROR Node
 * waits until somebody has read the rest of the stream. Before Node 26 it also waits for the
 * writes, which can not be sent any more. So such a stream would keep the memory that it was lent
 * as long as its session.
 *
 * In just that case Node adds a listener for 'end' to the stream. No other event shows it.
 */

const { Duplex } = require('node:stream')
const { isNode } = require('../runtime/platform')
const { uncurry, weakTable } = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')
const { addListener, removeListener } = require('./stream-state')

/** The `session.type` of a server's: http2's NGHTTP2_SESSION_SERVER. */
const SERVER = 0

/** The `state.state` of a stream that is closed and gone: http2's NGHTTP2_STREAM_STATE_IDLE. */
const UNKNOWN = 1

const addTo = uncurry(WeakSet.prototype.add)
const has = uncurry(WeakSet.prototype.has)
const { get, set } = weakTable

/**
 * The number of watchers of each stream.
 *
 * @type {WeakMap<import('node:http2').Http2Stream, number>}
 */
const watchers = new WeakMap()

/** Streams whose rest nobody will read. */
const discarded = new WeakSet()

/** Streams that were closed before their last byte had come. */
const cutOff = new WeakSet()

/**
 * Returns the http2 stream of a message, or the stream itself; `undefined` for anything else.
 *
 * @param {any} message
 * @returns {import('node:http2').Http2Stream | undefined}
 */
function http2StreamOf(message) {
  if (!isNode) return undefined
  const stream = message instanceof Duplex ? message : message.stream
  const isHttp2 = stream instanceof Duplex && 'rstCode' in stream && 'session' in stream
  return isHttp2 ? /** @type {any} */ (stream) : undefined
}

const ignore = () => {}

/**
 * Destroys the stream of a message as soon as it is reset before all is written. Does nothing for
 * other messages.
 *
 * @param {unknown} message
 * @returns {() => void} ends the watch
 */
function watchReset(message) {
  const stream = http2StreamOf(message)
  if (stream === undefined) return ignore
  // The user's listeners for 'newListener' may watch the stream, too.
  if (count(stream, 1) === 1) listen(stream)
  let isOver = false
  return () => {
    if (isOver) return
    isOver = true
    if (count(stream, -1) > 0) return
    removeListener(stream, 'newListener', onNewListener)
  }
}

/** @param {import('node:http2').Http2Stream} stream */
function listen(stream) {
  try {
    addListener(stream, 'newListener', onNewListener)
  } catch (error) {
    // A listener for 'newListener' is the user's.
    count(stream, -1)
    throw error
  }
}

/**
 * Changes the number of a stream's watchers, and returns it.
 *
 * @param {import('node:http2').Http2Stream} stream
 * @param {1 | -1} change
 */
function count(stream, change) {
  const watching = (get(watchers, stream) ?? 0) + change
  set(watchers, stream, watching)
  return watching
}

/**
 * Destroys a stream as soon as it is closed, even if it has bytes that nobody has read.
 *
 * @param {import('node:http2').Http2Stream} stream
 */
function destroyWhenClosed(stream) {
  addTo(discarded, stream)
  watchReset(stream)
}

/**
 * Returns whether a stream was reset, or closed before its last byte had come. Its 'end' does not
 * show that.
 *
 * @param {unknown} message whose stream is watched
 */
function wasCutOff(message) {
  const stream = http2StreamOf(message)
  return stream !== undefined && (stream.rstCode > 0 || has(cutOff, stream))
}

/**
 * Returns whether a stream was just reset, or is about to be, by a code after which Node does not
 * destroy it.
 *
 * @param {any} stream
 */
function isResetWithoutError(stream) {
  return stream.closed && stream.rstCode === 0 && !stream.destroyed
}

/**
 * @this {any}
 * @param {string | symbol} event
 */
function onNewListener(event) {
  if (event !== 'end' || !this.closed || this.destroyed) return
  // Node will end the stream. Until then it has ended only if its peer has ended it.
  if (!this._readableState?.ended) addTo(cutOff, this)
  // After the last frame, the writes call back as soon as the socket has taken them.
  const isWritten = this.state.localClose === 1
  if (!isWritten || has(discarded, this)) setImmediate(destroyIfClosed, this)
}

/** @param {any} stream */
function destroyIfClosed(stream) {
  // The user may have listened to 'end' while the stream was about to be closed.
  if (stream.destroyed || stream.state.state !== UNKNOWN) return
  // A server may answer a request that it has not read to its end. The user still reads that
  // response (RFC 9113, 8.1).
  const isResponse = stream.session?.type !== SERVER && !stream.readableEnded
  if (isResponse) {
    stream.once('end', () => stream.destroy())
    return
  }
  // Otherwise a request that lost its rest would pass for a whole one.
  if (!stream.readableEnded) addTo(cutOff, stream)
  stream.destroy()
}

module.exports = {
  SERVER,
  destroyWhenClosed,
  http2StreamOf,
  isResetWithoutError,
  wasCutOff,
  watchReset
}
