'use strict'

/**
 * The end of a pump: a writable, what it is given, and how it fares. One that borrows is lent the memory
 * itself. Every other one is given a copy, to keep.
 */

const { PrematureClose, WriteAfterEnd } = require('../errors')
const { borrows, callsBack, isDoneWhenClosed, isMessage } = require('./borrower')
const { afterPatience } = require('./patience')

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
  #listensToDrain = false
  #onDrain = () => {}
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
    if (writable.destroyed || writable.closed) throw causeOf(writable.errored)
    if (writable.writableEnded) throw new WriteAfterEnd()
    this.#isWatched = true
    writable.on('error', this.#onError)
    writable.on('close', this.#onClose)
    // In line behind another one, a response does not hear of its connection's end (before Node 26).
    if (isMessage(writable)) this.#watchConnection(writable.socket ?? writable.req?.socket)
  }

  /** @param {import('node:net').Socket | null | undefined} socket */
  #watchConnection(socket) {
    if (this.#connection || !socket) return
    this.#connection = socket
    socket.on('close', this.#onClosed)
  }

  unwatch() {
    const writable = this.#writable
    this.#isWatched = false
    clearTimeout(this.#timer)
    writable.removeListener('error', this.#onError)
    writable.removeListener('close', this.#onClose)
    if (this.#listensToDrain) writable.removeListener('drain', this.#drained)
    this.#connection?.removeListener('close', this.#onClosed)
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
    if (writable.write(bytes, undefined, done)) process.nextTick(done)
  }

  #drained = () => this.#onDrain()

  /** @param {Error | null} [error] */
  #called = (error) => {
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

  /** The connection is closed, and whatever was on it. */
  #onClosed = () => this.#onDeath(causeOf(this.#writable.errored), true)
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
