'use strict'

/**
 * An HTTP/1 message that was ended with a Buffer of the pool's, until nobody reads that memory any more.
 *
 * A message emits 'finish' and 'close', but so can anyone. So these only say when to look: at what the message keeps,
 * and at what its connection has still to send. Where that is more than nothing, it may be another message's. Then an
 * empty write, which calls back when all before it is done, or the end of the connection, says when to look again.
 */

const { Socket } = require('node:net')
const process = require('node:process')
const { closeOff } = require('../runtime/intrinsics')
const { handleWhenConnected, isClosed, onClosed } = require('./connection')
const {
  addListener,
  holdsBytes,
  isWritable,
  lengthOf,
  maySendYet,
  removeListener,
  socketOf,
  writeStream
} = require('./stream-state')

const EVENTS = /** @type {const} */ (['finish', 'close', 'socket'])

/** Whether writes may be under way on a socket that is destroyed and not closed. */
const WRITES_OVERLAP = process.platform === 'win32'

/** One of the connections that a message was seen on. */
class Path {
  isWaiting = false
  /** Whether all is sent that it was given until then, or never will be. */
  isDone = false
  /**
   * The path seen before this one.
   *
   * @type {Path | undefined}
   */
  next

  /**
   * @type {object | undefined}
   */
  #handle

  /** @param {Socket} socket */
  constructor(socket) {
    this.socket = socket
    this.look()
  }

  /** Remembers the handle, which a socket loses before it is closed. */
  look() {
    this.#handle ??= handleWhenConnected(this.socket)
  }

  /** Whether the socket is known to be closed. */
  get isClosed() {
    if (this.#handle === undefined && WRITES_OVERLAP) return false
    return isClosed(this.socket, this.#handle)
  }
}

closeOff(Path)

class Sending {
  #message
  #onDone
  /**
   * The path seen last, and so on.
   *
   * @type {Path | undefined}
   */
  #path
  #isOver = false
  /** Whether it kept anything when it had ended. */
  #keeps = false
  /** Whether it was on a connection that is none of Node's. */
  #isAstray = false

  /**
   * @param {import('node:http').OutgoingMessage} message to be ended after this
   * @param {(isFree: boolean) => void} onDone called once at most: whether it is known that nothing will be sent any
   *   more, now or on a connection that is made again
   */
  constructor(message, onDone) {
    this.#message = message
    this.#onDone = onDone
    try {
      for (const event of EVENTS) addListener(message, event, this.look)
    } catch (error) {
      // A listener for new listeners is the user's.
      this.stop()
      throw error
    }
    this.#follow()
  }

  /** Notes how it stands once the message has ended. */
  begin() {
    if (this.#isOver) return
    this.#follow()
    this.#keeps = holdsBytes(this.#message)
  }

  /** Looks whether all is done. */
  look = () => {
    if (this.#isOver) return
    this.#follow()
    if (holdsBytes(this.#message) && !this.#drop()) return
    for (let path = this.#path; path !== undefined; path = path.next) {
      if (!path.isDone && lengthOf(path.socket) > 0) return this.#wait(path)
    }
    this.stop()
    this.#onDone(this.#isFree())
  }

  stop() {
    this.#isOver = true
    for (const event of EVENTS) {
      try {
        removeListener(this.#message, event, this.look)
      } catch {
        // As above.
      }
    }
  }

  /** Notes which connection the message is on. */
  #follow() {
    const socket = socketOf(this.#message)
    if (!socket) return
    for (let path = this.#path; path !== undefined; path = path.next) {
      if (path.socket === socket) return path.look()
    }
    if (!(socket instanceof Socket)) {
      this.#isAstray = true
      return
    }
    const path = new Path(socket)
    path.next = this.#path
    this.#path = path
  }

  /**
   * Takes from a message that will not be sent what it keeps. Whether it keeps nothing more; while it may still be
   * sent, it keeps all.
   */
  #drop() {
    const message = /** @type {any} */ (this.#message)
    if (!message.destroyed) return false
    // As Node does when a connection ends; not when there was none yet.
    message.outputData.length = 0
    message.outputSize = 0
    this.#keeps = holdsBytes(message)
    return !this.#keeps
  }

  /** @param {Path} path with something still to send */
  #wait(path) {
    if (path.isWaiting) return
    path.isWaiting = true
    const { socket } = path
    const passed = (/** @type {unknown} */ error) => {
      path.isWaiting = false
      path.isDone = !error
      this.look()
    }
    const closed = () => {
      path.isDone = true
      this.look()
    }
    try {
      if (isWritable(socket)) writeStream(socket, '', passed)
      else if (path.isClosed) closed()
      else onClosed(socket, closed)
    } catch {
      // The collector finds the memory when the message is gone.
    }
  }

  #isFree() {
    // It was on a connection that was never seen.
    if (this.#isAstray || (this.#keeps && this.#path === undefined)) return false
    for (let path = this.#path; path !== undefined; path = path.next) {
      if (maySendYet(path.socket)) return false
    }
    return true
  }
}

module.exports = { Sending }
