'use strict'

/**
 * Watches an HTTP/1 message that was ended with a pooled Buffer, until nobody reads that memory any
 * more.
 *
 * A message emits 'finish' and 'close', but anyone else can, too. So these events only say when to
 * look: at the bytes that the message keeps, and at those that its connection has still to send.
 *
 * The latter may be another message's. Then this looks again after an empty write, which calls back
 * when all writes before it are done, or after the end of the connection.
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

/** Whether writes may be under way on a socket that is destroyed and not closed yet. */
const WRITES_OVERLAP = process.platform === 'win32'

/** A connection that the message was seen on. */
class Path {
  isWaiting = false
  /** Whether the connection has sent all that it was given until then, or never will. */
  isDone = false
  /**
   * The path seen before this one.
   *
   * @type {Path | undefined}
   */
  next

  /** @type {object | undefined} */
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
   * The path seen last, with those before it.
   *
   * @type {Path | undefined}
   */
  #path
  #isOver = false
  /** Whether the message kept bytes when it had ended. */
  #keeps = false
  /** Whether the message was on a connection that is none of Node's. */
  #wasElsewhere = false

  /**
   * @param {import('node:http').OutgoingMessage} message that the caller ends after this
   * @param {(isFree: boolean) => void} onDone called once at most, with whether certainly nothing
   *   more will be sent, now or on a connection that is made again
   */
  constructor(message, onDone) {
    this.#message = message
    this.#onDone = onDone
    try {
      for (const event of EVENTS) addListener(message, event, this.look)
    } catch (error) {
      // A listener for 'newListener' is the user's.
      this.stop()
      throw error
    }
    this.#follow()
  }

  /** Notes what the message keeps. The message MUST have ended. */
  begin() {
    if (this.#isOver) return
    this.#follow()
    this.#keeps = holdsBytes(this.#message)
  }

  /** Calls `onDone` if all is sent or never will be. Otherwise waits until it has to look again. */
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
    for (const event of EVENTS) removeListener(this.#message, event, this.look)
  }

  /** Notes the connection that the message is on. */
  #follow() {
    const socket = socketOf(this.#message)
    if (!socket) return
    for (let path = this.#path; path !== undefined; path = path.next) {
      if (path.socket === socket) return path.look()
    }
    if (!(socket instanceof Socket)) {
      this.#wasElsewhere = true
      return
    }
    const path = new Path(socket)
    path.next = this.#path
    this.#path = path
  }

  /**
   * Takes its bytes from a message that will not be sent. Returns whether the message keeps none
   * any more: one that may still be sent keeps them all.
   */
  #drop() {
    const message = /** @type {any} */ (this.#message)
    if (!message.destroyed) return false
    // Node does the same when a connection ends, but not when there was none yet.
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
      // The garbage collector returns the memory when the message is gone.
    }
  }

  #isFree() {
    // The message was on a connection that was never seen.
    if (this.#wasElsewhere || (this.#keeps && this.#path === undefined)) return false
    for (let path = this.#path; path !== undefined; path = path.next) {
      if (maySendYet(path.socket)) return false
    }
    return true
  }
}

module.exports = { Sending }
