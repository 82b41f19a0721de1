'use strict'

/**
 * Tells when a connection is closed. As many as like can ask, with one listener of ours on it: a client that
 * sends request upon request without waiting would else have us warned of a leak.
 *
 * Anyone can emit 'close'. So that event only says when to look.
 */

const { Duplex } = require('node:stream')
const { isNode } = require('../runtime/platform')
const { addTo, deleteFrom, forEachIn, weakTable } = require('../runtime/intrinsics')
const { throwUncaught } = require('../runtime/timers')
const { handleOf, isOpen } = require('./handle')
const { addListener, isDestroyed, removeListener } = require('./stream-state')

/** @type {WeakMap<import('node:net').Socket, Asking>} */
const askingOf = new WeakMap()

// As they were when cistern was loaded: others must not see the callbacks go by.
const { get: find, set: put, delete: remove } = weakTable

/** Those who ask after one connection. */
class Asking {
  #connection
  /** @type {Set<() => void>} */
  #callbacks = new Set()
  #count = 0
  /**
   * What the connection was last seen to read and write by, when it was connected.
   *
   * @type {object | undefined}
   */
  #handle

  /** @param {import('node:net').Socket} connection */
  constructor(connection) {
    this.#connection = connection
    addListener(connection, 'close', this.#onClose)
    put(askingOf, connection, this)
  }

  /** @param {() => void} callback */
  add(callback) {
    this.#look()
    addTo(this.#callbacks, callback)
    this.#count++
  }

  /** @param {() => void} callback */
  delete(callback) {
    if (!deleteFrom(this.#callbacks, callback)) return
    this.#count--
    if (this.#count === 0) this.#end()
  }

  get isClosed() {
    this.#look()
    return isClosed(this.#connection, this.#handle)
  }

  tell() {
    this.#end()
    const callbacks = this.#callbacks
    this.#callbacks = new Set()
    forEachIn(callbacks, callAlone)
  }

  /** Remembers the handle, which the connection loses before it is closed. */
  #look() {
    this.#handle ??= handleWhenConnected(this.#connection)
  }

  #onClose = () => {
    if (this.isClosed) this.tell()
  }

  #end() {
    if (find(askingOf, this.#connection) === this) remove(askingOf, this.#connection)
    try {
      removeListener(this.#connection, 'close', this.#onClose)
    } catch {
      // Who listens for that is the user.
    }
  }
}

/**
 * Calls back, whatever the others did. What one throws becomes an uncaught exception.
 *
 * @param {() => void} callback
 */
function callAlone(callback) {
  try {
    callback()
  } catch (error) {
    throwUncaught(error)
  }
}

/** @param {import('node:net').Socket} connection */
function handleWhenConnected(connection) {
  // One that connects may try one after another.
  return connection.connecting ? undefined : handleOf(connection)
}

/**
 * Whether a connection is closed that has emitted 'close', or someone in its name.
 *
 * @param {import('node:net').Socket} connection
 * @param {object} [handle] that it had when it was connected, if it is known
 */
function isClosed(connection, handle) {
  if (handle !== undefined) return !isOpen(handle)
  // There is nothing to ask. Other runtimes have other handles.
  if (!isNode || !(connection instanceof Duplex)) return true
  return isDestroyed(connection) && !(/** @type {any} */ (connection)._handle)
}

/**
 * Throws what a listener for new listeners throws; then it never calls back.
 *
 * @param {import('node:net').Socket} connection not closed yet
 * @param {() => void} callback
 */
function onClosed(connection, callback) {
  let asking = /** @type {Asking | undefined} */ (find(askingOf, connection))
  if (asking?.isClosed) {
    // It has connected again before it told that it was closed.
    asking.tell()
    asking = undefined
  }
  asking ??= new Asking(connection)
  asking.add(callback)
}

/**
 * @param {import('node:net').Socket} connection
 * @param {() => void} callback that `onClosed` was given
 */
function offClosed(connection, callback) {
  find(askingOf, connection)?.delete(callback)
}

module.exports = { handleWhenConnected, isClosed, offClosed, onClosed }
