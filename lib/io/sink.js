'use strict'

/**
 * The writable of a pump: writes to it, and watches it. A writable that is certain to report when
 * it is done with the memory is lent the memory itself. Every other one gets a copy.
 */

const { WriteStream } = require('node:fs')
const { OutgoingMessage } = require('node:http')
const { Socket } = require('node:net')
const { Writable } = require('node:stream')
const { PrematureClose, WriteAfterEnd } = require('../pool/errors')
const { allocUnsafeSlow, lengthOf: lengthOfBytes, setBytes } = require('../runtime/intrinsics')
const { clearTimeout, setImmediate } = require('../runtime/timers')
const { isMessage, kindOf } = require('./writable-kinds')
const { offClosed, onClosed } = require('./connection')
const { http2StreamOf, isResetWithoutError, watchReset } = require('./http2-reset')
const { afterGracePeriod, quietly } = require('./operation')
const {
  isClosing,
  isDestroyed,
  lengthOf,
  lengthOfMessage,
  maySendYet,
  writeMessage: writeToMessage,
  writeStream: writeToStream
} = require('./stream-state')

// As they were when cistern was loaded.
const { write: writeMessage } = OutgoingMessage.prototype
const { write: writeStream } = Writable.prototype

/** One write. Its callback is for this write alone, and only the first call counts. */
class Write {
  /** Whether the writable was lent the memory, and may still read it. */
  isLent = false
}

class Sink {
  #writable
  #onWritten
  #onDeath
  /**
   * The connection of an http message: the one that it is on, or gets after the messages before it.
   *
   * @type {import('node:net').Socket | undefined}
   */
  #connection
  #isWatched = false
  /**
   * The write under way.
   *
   * @type {Write | undefined}
   */
  #write
  #listensToDrain = false
  #onDrain = () => {}
  /**
   * The stream of a writable over HTTP/2.
   *
   * @type {import('node:http2').Http2Stream | undefined}
   */
  #http2Stream
  #unwatchReset = () => {}
  /** @type {NodeJS.Timeout | undefined} */
  #timer

  /**
   * @param {any} writable
   * @param {(error: Error | null | undefined, isFree: boolean) => void} onWritten called when the
   *   last write is over, with whether the writable certainly reads the memory no more; after an
   *   error, `onDeath` follows
   * @param {(error: Error) => void} onDeath called when the writable takes no more writes. The last
   *   write may still be under way
   */
  constructor(writable, onWritten, onDeath) {
    this.#writable = writable
    this.#onWritten = onWritten
    this.#onDeath = onDeath
  }

  /** Listens to the writable. Throws where it takes no writes any more. */
  watch() {
    const writable = this.#writable
    // Before Node 26, a response that is queued behind another gets no event when its connection
    // ends.
    const connection = isMessage(writable) ? (writable.socket ?? writable.req?.socket) : undefined
    if (writable.destroyed || writable.closed || (connection && isClosing(connection))) {
      throw causeOf(writable.errored)
    }
    if (writable.writableEnded) throw new WriteAfterEnd()
    this.#isWatched = true
    writable.on('error', this.#onError)
    writable.on('close', this.#onClose)
    this.#unwatchReset = watchReset(writable)
    this.#http2Stream = http2StreamOf(writable)
    this.#http2Stream?.on('aborted', this.#onAborted)
    this.#watchConnection(connection)
  }

  /** @param {import('node:net').Socket | null | undefined} socket */
  #watchConnection(socket) {
    if (this.#connection || !socket) return
    this.#connection = socket
    onClosed(socket, this.#onClosed)
  }

  unwatch() {
    this.#isWatched = false
    clearTimeout(this.#timer)
    const writable = this.#writable
    unlisten(writable, 'error', this.#onError)
    unlisten(writable, 'close', this.#onClose)
    if (this.#http2Stream) unlisten(this.#http2Stream, 'aborted', this.#onAborted)
    if (this.#listensToDrain) unlisten(writable, 'drain', this.#drained)
    // Otherwise the end of the connection may be all that shows when the memory is free.
    if (!this.#write?.isLent) this.#leaveConnection()
  }

  #leaveConnection() {
    this.#unwatchReset()
    if (this.#connection) offClosed(this.#connection, this.#onClosed)
  }

  /**
   * Writes. Returns whether the writable was lent the memory, which then stays as it is until
   * `onWritten`.
   *
   * @param {Buffer} bytes
   * @param {() => boolean} isGone returns whether the pump has lost the memory
   */
  write(bytes, isGone) {
    const writable = this.#writable
    const write = new Write()
    this.#write = write
    const onCalled = (/** @type {Error | null} */ error = null) => this.#called(write, error)
    if (writable.destroyed || writable.closed) {
      setImmediate(onCalled, causeOf(writable.errored))
      return false
    }
    // Node would destroy the writable, with all that it has still to send.
    if (writable.writableEnded) throw new WriteAfterEnd()
    const lends = canBeLent(writable)
    if (lends && isMessage(writable)) this.#watchConnection(writable.socket)
    // The user's code may have run: getters, and listeners for new listeners.
    if (isGone()) return false
    if (lends) {
      this.#lend(bytes, write, onCalled)
      return true
    }
    const copy = allocUnsafeSlow(lengthOfBytes(bytes))
    setBytes(copy, bytes, 0)
    if (callsBack(writable)) writable.write(copy, onCalled)
    else this.#writeUncalled(copy, onCalled)
    return false
  }

  /**
   * @param {Buffer} bytes
   * @param {Write} write
   * @param {(error?: Error | null) => void} onCalled
   */
  #lend(bytes, write, onCalled) {
    const writable = this.#writable
    write.isLent = true
    try {
      if (isMessage(writable)) writeToMessage(writable, bytes, onCalled)
      else if (writable instanceof Writable) writeToStream(writable, bytes, onCalled)
      else writable.write(bytes, onCalled)
    } catch (error) {
      this.#settle(write, /** @type {Error} */ (error), isIdle(writable))
      throw error
    }
  }

  /**
   * Reports that a write that lent memory is over.
   *
   * @param {Write} write
   * @param {Error | null} error
   * @param {boolean} isFree
   */
  #settle(write, error, isFree) {
    if (!write.isLent || this.#write !== write) return
    write.isLent = false
    this.#write = undefined
    if (!this.#isWatched) this.#leaveConnection()
    this.#onWritten(error, isFree)
  }

  /**
   * Writes to a writable that may never call back.
   *
   * @param {Buffer} bytes
   * @param {(error?: Error | null) => void} onCalled
   */
  #writeUncalled(bytes, onCalled) {
    const writable = this.#writable
    this.#onDrain = onCalled
    if (!this.#listensToDrain) {
      // Once: compression's `removeListener` does not find the listener that its `on` has added.
      this.#listensToDrain = true
      writable.on('drain', this.#drained)
    }
    // A writable that returns nothing may also emit nothing.
    if (writable.write(bytes, undefined, onCalled) !== false) setImmediate(onCalled)
  }

  #drained = () => this.#onDrain()

  /**
   * @param {Write} write that the writable has called back for
   * @param {Error | null} error
   */
  #called(write, error) {
    if (this.#write !== write) return
    // The 'error' event comes later. Unhandled, it would crash the process.
    if (error && this.#isWatched) {
      this.#timer ??= afterGracePeriod(() => this.#onError(error))
    }
    if (write.isLent) {
      this.#settle(write, error, !error || !this.#maySendYet())
    } else {
      this.#write = undefined
      this.#onWritten(error, true)
    }
  }

  #maySendYet() {
    const socket = this.#writable instanceof Socket ? this.#writable : this.#connection
    return socket !== undefined && maySendYet(socket)
  }

  /** @param {Error} error */
  #onError = (error) => {
    if (this.#isWatched) this.#onDeath(causeOf(error))
  }

  #onClose = () => {
    if (this.#isWatched && !isOpen(this.#writable)) this.#onDeath(this.#cause())
  }

  /** Returns the error of the writable; what its getter throws, if that does. */
  #cause() {
    try {
      return causeOf(this.#writable.errored)
    } catch (error) {
      return /** @type {Error} */ (error)
    }
  }

  /** Whether certainly nobody will read the lent memory. */
  get #isDone() {
    try {
      return isIdle(this.#writable) && !this.#maySendYet()
    } catch {
      return false
    }
  }

  // Node destroys a client's stream only when its user has read the response.
  #onAborted = () => {
    if (isResetWithoutError(this.#http2Stream)) this.#onClose()
  }

  /** Called when the connection is closed, with all messages on it. */
  #onClosed = () => {
    const error = this.#cause()
    if (this.#write?.isLent) this.#settle(this.#write, error, this.#isDone)
    this.#onDeath(error)
  }
}

/**
 * Removes a listener by the user's own method, which may throw.
 *
 * @param {any} emitter
 * @param {string} event
 * @param {Function} listener
 */
function unlisten(emitter, event, listener) {
  quietly(() => emitter.removeListener(event, listener))
}

/**
 * Returns whether a writable of Node's own is open. Anyone can emit 'close'.
 *
 * @param {any} writable
 */
function isOpen(writable) {
  try {
    if (isMessage(writable)) return !(/** @type {any} */ (writable).destroyed)
  } catch {
    return false
  }
  return (writable instanceof Socket || writable instanceof WriteStream) && !isDestroyed(writable)
}

/**
 * Returns whether neither a writable nor its connection has anything to send.
 *
 * @param {any} writable
 */
function isIdle(writable) {
  if (isMessage(writable)) return lengthOfMessage(writable) === 0
  return (
    lengthOf(writable instanceof Writable ? writable : /** @type {any} */ (writable).stream) === 0
  )
}

/**
 * Returns whether a writable can be lent memory: it is done with a chunk when it has called back,
 * and takes writes at once.
 *
 * @param {any} writable
 */
function canBeLent(writable) {
  if (writable.writableCorked > 0) return false
  const kind = kindOf(writable, ['write'])
  if (kind === 'message') return Boolean(writable.socket)
  if (kind === 'stream') return true
  const stream = kind === 'http2 stream' ? writable : writable.stream
  return kind !== undefined && !stream.pending && !stream.destroyed
}

/**
 * Returns whether a writable calls back for each write. A method of other code may not: express's
 * compression does not. A corked writable calls back when its user uncorks it.
 *
 * @param {any} writable
 */
function callsBack({ write, writableCorked }) {
  return (write === writeStream || write === writeMessage) && !(writableCorked > 0)
}

/**
 * Returns the error to report for a writable that takes no more writes.
 *
 * @param {NodeJS.ErrnoException | null} [error]
 */
function causeOf(error) {
  // The system gives this error to a write under way when its socket is closed.
  return !error || error.code === 'ECANCELED' ? new PrematureClose() : error
}

module.exports = { Sink }
