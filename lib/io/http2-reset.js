'use strict'

/**
 * Ends http2 streams that their peers have reset with NO_ERROR.
 *
 * After any other code Node destroys a stream, and calls back for each write. After NO_ERROR it waits until somebody
 * has read the rest of the stream. Before Node 26 it waits for the writes, too, which can't be sent any more. So such
 * a stream would keep the memory that it was lent for as long as its session lives.
 *
 * In just that case Node adds a listener for 'end' to the stream; no other event tells it.
 */

const { Duplex } = require('node:stream')
const { isNode } = require('../runtime/platform')
const { uncurry, weakTable } = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')
const { addListener, removeListener } = require('./stream-state')

/** The `session.type` of a server's: http2's NGHTTP2_SESSION_SERVER. */
const SERVER = 0

/** The `state.state` of a stream that is closed, and unknown: http2's NGHTTP2_STREAM_STATE_IDLE. */
const UNKNOWN = 1

const addTo = uncurry(WeakSet.prototype.add)
const has = uncurry(WeakSet.prototype.has)
const { get, set } = weakTable

/**
 * How many watch a stream.
 *
 * @type {WeakMap<import('node:http2').Http2Stream, number>}
 */
const watchers = new WeakMap()

/** Streams that need not be read to their end. */
const discarded = new WeakSet()

/** Streams that were closed before all had come that was to be read. */
const cutOff = new WeakSet()

/**
 * The http2 stream of a message, or the stream itself; `undefined` for anything else.
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
 * Destroys the stream of a message once it was reset before all was written. Does nothing for other messages.
 *
 * @param {unknown} message
 * @returns {() => void} ends the watch
 */
function watchReset(message) {
  const stream = http2StreamOf(message)
  if (stream === undefined) return ignore
  // Listeners for new listeners may watch it, too.
  if (count(stream, 1) === 1) listen(stream)
  let isOver = false
  return () => {
    if (isOver) return
    isOver = true
    if (count(stream, -1) > 0) return
    try {
      removeListener(stream, 'newListener', onNewListener)
    } catch {
      // A listener for removed listeners is the user's.
    }
  }
}

/** @param {import('node:http2').Http2Stream} stream */
function listen(stream) {
  try {
    addListener(stream, 'newListener', onNewListener)
  } catch (error) {
    // A listener for new listeners is the user's.
    count(stream, -1)
    throw error
  }
}

/**
 * Counts those who watch a stream. Returns how many they are now.
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
 * Destroys a stream once it is closed, whatever of it is still to be read.
 *
 * @param {import('node:http2').Http2Stream} stream
 */
function destroyWhenClosed(stream) {
  addTo(discarded, stream)
  watchReset(stream)
}

/**
 * Whether a stream was reset, or closed before all had come that was to be read. Its 'end' does not show that.
 *
 * @param {unknown} message whose stream is watched
 */
function wasCutOff(message) {
  const stream = http2StreamOf(message)
  return stream !== undefined && (stream.rstCode > 0 || has(cutOff, stream))
}

/**
 * Whether a stream was just reset, or is about to be, by a code after which Node does not destroy it.
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
  // Node will make it end. Until then it has ended only if its peer said so.
  if (!this._readableState?.ended) addTo(cutOff, this)
  // Once the last frame is out, the writes call back as soon as the socket has taken them.
  const isWritten = this.state.localClose === 1
  if (!isWritten || has(discarded, this)) setImmediate(destroyIfClosed, this)
}

/** @param {any} stream */
function destroyIfClosed(stream) {
  // The user may have listened to 'end' while the stream was about to be closed.
  if (stream.destroyed || stream.state.state !== UNKNOWN) return
  // A server's response to a request that it has not read to its end is to be read all the same (RFC 9113, 8.1).
  const isResponse = stream.session?.type !== SERVER && !stream.readableEnded
  if (isResponse) {
    stream.once('end', () => stream.destroy())
    return
  }
  // Else a request that lost its rest would pass for one that is whole.
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
