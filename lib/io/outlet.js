'use strict'

/**
 * The end of a pump: a writable, what it is given, and how it fares. One that borrows is lent the memory
 * itself. Every other one is given a copy, to keep.
 */

const { WriteStream } = require('node:fs')
const { OutgoingMessage } = require('node:http')
const { Socket } = require('node:net')
const { Writable } = require('node:stream')
const { PrematureClose, WriteAfterEnd } = require('../errors')
const { isMessage, kindOf } = require('./borrowers')
const { offClosed, onClosed } = require('./connection')
const { http2StreamOf, isResetWithoutError, watchReset } = require('./http2-reset')
const { afterPatience } = require('./patience')

// As they were when cistern was loaded.
const { write: writeMessage } = OutgoingMessage.prototype
const { write: writeStream } = Writable.prototype

class Outlet {
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
  /** Whether a write of memory that was lent is under way. */
  #isLent = false
  #listensToDrain = false
  #onDrain = () => {}
  #unwatchReset = () => {}
  /** @type {NodeJS.Timeout | undefined} */
  #timer

  /**
   * @param {any} writable
   * @param {(error?: Error | null) => void} onWritten the writable is done with the last write; after an
   *   error, `onDeath` follows
   * @param {(error: Error, isDone: boolean) => void} onDeath it takes no more writes, and perhaps is done
   *   with what it was lent
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
    if (writable.destroyed || writable.closed || connection?.closed) {
      throw causeOf(writable.errored)
    }
    if (writable.writableEnded) throw new WriteAfterEnd()
    this.#isWatched = true
    writable.on('error', this.#onError)
    writable.on('close', this.#onClose)
    this.#unwatchReset = watchReset(writable)
    http2StreamOf(writable)?.on('aborted', this.#onAborted)
    this.#watchConnection(connection)
  }

  /** @param {import('node:net').Socket | null | undefined} socket */
  #watchConnection(socket) {
    if (this.#connection || !socket) return
    this.#connection = socket
    onClosed(socket, this.#onClosed)
  }

  unwatch() {
    const writable = this.#writable
    this.#isWatched = false
    clearTimeout(this.#timer)
    writable.removeListener('error', this.#onError)
    writable.removeListener('close', this.#onClose)
    http2StreamOf(writable)?.removeListener('aborted', this.#onAborted)
    if (this.#listensToDrain) writable.removeListener('drain', this.#drained)
    // Else the end of the connection may be all that tells when the memory is free.
    if (!this.#isLent) this.#leaveConnection()
  }

  #leaveConnection() {
    this.#unwatchReset()
    if (this.#connection) offClosed(this.#connection, this.#onClosed)
  }

  /**
   * Writes. Whether the writable was lent the memory, and must find it as it is until it is done.
   *
   * @param {Buffer} bytes
   */
  write(bytes) {
    const writable = this.#writable
    if (writable.destroyed || writable.closed) {
      process.nextTick(this.#called, causeOf(writable.errored))
      return false
    }
    // Node would destroy it, with what is still on its way.
    if (writable.writableEnded) throw new WriteAfterEnd()
    if (borrows(writable)) {
      if (isMessage(writable)) this.#watchConnection(writable.socket)
      this.#isLent = true
      writable.write(bytes, this.#called)
      return true
    }
    const copy = Buffer.from(bytes)
    if (callsBack(writable)) writable.write(copy, this.#called)
    else this.#writeUncalled(copy)
    return false
  }

  /**
   * Writes to what may call back or not.
   *
   * @param {Buffer} bytes
   */
  #writeUncalled(bytes) {
    const writable = this.#writable
    let isDone = false
    const done = (/** @type {Error | null} */ error = null) => {
      if (isDone) return
      isDone = true
      this.#called(error)
    }
    this.#onDrain = done
    if (!this.#listensToDrain) {
      // Once: compression's `removeListener` does not find what its `on` has added.
      this.#listensToDrain = true
      writable.on('drain', this.#drained)
    }
    // What says nothing may never say more, either.
    if (writable.write(bytes, undefined, done) !== false) process.nextTick(done)
  }

  #drained = () => this.#onDrain()

  /** @param {Error | null} [error] */
  #called = (error) => {
    this.#isLent = false
    if (!this.#isWatched) this.#leaveConnection()
    // Its event comes later, and would end the process if nobody listened.
    if (error && this.#isWatched) {
      this.#timer ??= afterPatience(() => this.#onError(error))
    }
    this.#onWritten(error)
  }

  /** @param {Error} error */
  #onError = (error) => {
    if (this.#isWatched) this.#onDeath(causeOf(error), false)
  }

  #onClose = () => {
    this.#onDeath(causeOf(this.#writable.errored), isDoneWhenClosed(this.#writable))
  }

  // A client's stream is destroyed only when its user has read the response.
  #onAborted = () => {
    if (isResetWithoutError(http2StreamOf(this.#writable))) this.#onClose()
  }

  /** The connection is closed, and whatever was on it. */
  #onClosed = () => this.#onDeath(causeOf(this.#writable.errored), true)
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
 * Whether a writable that is closed is done with what it was lent.
 *
 * @param {unknown} writable
 */
function isDoneWhenClosed(writable) {
  return writable instanceof Socket || writable instanceof WriteStream
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

module.exports = { Outlet }
