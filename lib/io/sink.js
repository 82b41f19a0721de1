'use strict'

/**
 * The end of a pump: a writable, what it is given, and how it fares. One that borrows is lent the memory
 * itself. Every other one is given a copy, to keep.
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

/** One write. Its callback is for it alone, and counts once. */
class Write {
  /** Whether the writable was lent the memory, and may still read it. */
  isLent = false
}

class Sink {
  #writable
  #onWritten
  #onDeath
  /**
   * What an http message is on, or is to be on when those before it are done.
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
   * Of a writable over HTTP/2.
   *
   * @type {import('node:http2').Http2Stream | undefined}
   */
  #http2Stream
  #unwatchReset = () => {}
  /** @type {NodeJS.Timeout | undefined} */
  #timer

  /**
   * @param {any} writable
   * @param {(error: Error | null | undefined, isFree: boolean) => void} onWritten the last write is over: whether it
   *   is known that the writable will not read the memory any more; after an error, `onDeath` follows
   * @param {(error: Error) => void} onDeath it takes no more writes; it may not be done with the last
   */
  constructor(writable, onWritten, onDeath) {
    this.#writable = writable
    this.#onWritten = onWritten
    this.#onDeath = onDeath
  }

  /** Looks after the writable. Throws where it takes no writes any more. */
  watch() {
    const writable = this.#writable
    // In line behind another one, a response does not hear of its connection's end (before Node 26).
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
    // Else the end of the connection may be all that tells when the memory is free.
    if (!this.#write?.isLent) this.#leaveConnection()
  }

  #leaveConnection() {
    this.#unwatchReset()
    if (this.#connection) offClosed(this.#connection, this.#onClosed)
  }

  /**
   * Writes. Whether the writable was lent the memory, and must find it as it is until it is done.
   *
   * @param {Buffer} bytes
   * @param {() => boolean} isGone whether the memory is not the pump's any more
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
    // Node would destroy it, with what is still on its way.
    if (writable.writableEnded) throw new WriteAfterEnd()
    const lends = borrows(writable)
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
   * Tells, of a write that lent memory, that it is over.
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
   * Writes to what may call back or not.
   *
   * @param {Buffer} bytes
   * @param {(error?: Error | null) => void} onCalled
   */
  #writeUncalled(bytes, onCalled) {
    const writable = this.#writable
    this.#onDrain = onCalled
    if (!this.#listensToDrain) {
      // Once: compression's `removeListener` does not find what its `on` has added.
      this.#listensToDrain = true
      writable.on('drain', this.#drained)
    }
    // What says nothing may never say more, either.
    if (writable.write(bytes, undefined, onCalled) !== false) setImmediate(onCalled)
  }

  #drained = () => this.#onDrain()

  /**
   * @param {Write} write that the writable has called back for
   * @param {Error | null} error
   */
  #called(write, error) {
    if (this.#write !== write) return
    // Its event comes later, and would end the process if nobody listened.
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

  /** What the writable died of. It is the user's: where it throws as it is asked, it died of that. */
  #cause() {
    try {
      return causeOf(this.#writable.errored)
    } catch (error) {
      return /** @type {Error} */ (error)
    }
  }

  /** Whether nobody will read what the writable was lent. Where it can't be asked, that is not known. */
  get #isDone() {
    try {
      return isIdle(this.#writable) && !this.#maySendYet()
    } catch {
      return false
    }
  }

  // A client's stream is destroyed only when its user has read the response.
  #onAborted = () => {
    if (isResetWithoutError(this.#http2Stream)) this.#onClose()
  }

  /** The connection is closed, and whatever was on it. */
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
 * Whether one of Node's own has not been closed, though someone may say so.
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
 * Whether a writable has nothing to send, neither itself nor what it is on.
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
 * Whether a writable is done with a chunk when it has called back, and can be written to at once.
 *
 * @param {any} writable
 */
function borrows(writable) {
  if (writable.writableCorked > 0) return false
  const kind = kindOf(writable, ['write'])
  if (kind === 'message') return Boolean(writable.socket)
  if (kind === 'stream') return true
  const stream = kind === 'http2 stream' ? writable : writable.stream
  return kind !== undefined && !stream.pending && !stream.destroyed
}

/**
 * Whether a writable calls back for each write. One whose method other code has put there may not:
 * express's compression does not. One that is corked does when its user lets it.
 *
 * @param {any} writable
 */
function callsBack({ write, writableCorked }) {
  return (write === writeStream || write === writeMessage) && !(writableCorked > 0)
}

/**
 * What a writable died of.
 *
 * @param {NodeJS.ErrnoException | null} [error]
 */
function causeOf(error) {
  // That is how the system calls a write under way when its socket is closed.
  return !error || error.code === 'ECANCELED' ? new PrematureClose() : error
}

module.exports = { Sink }
