'use strict'

/**
 * Calls back when a connection is closed. All callbacks of a connection share one listener.
 * Otherwise a client that pipelines many requests would make Node warn of a leak.
 *
 * Anyone can emit 'close'. So that event only says when to look.
 */

const { Duplex } = require('node:stream')
const { isNode } = require('../runtime/platform')
const { addTo, deleteFrom, forEachIn, weakTable } = require('../runtime/intrinsics')
const { throwUncaught } = require('../runtime/timers')
const { handleOf, isOpen } = require('./handle')
const { addListener, isDestroyed, removeListener } = require('./stream-state')

/** @type {WeakMap<import('node:net').Socket, CloseWatch>} */
const watches = new WeakMap()

// As they were when cistern was loaded: other code must not see the callbacks.
const { get: find, set: put, delete: remove } = weakTable

/** Watches one connection for all who wait for its end. */
class CloseWatch {
  #connection
  /** @type {Set<() => void>} */
  #callbacks = new Set()
  #count = 0
  /**
   * The handle that the connection had when it was last seen connected.
   *
   * @type {object | undefined}
   */
  #handle

  /** @param {import('node:net').Socket} connection */
  constructor(connection) {
    this.#connection = connection
    addListener(connection, 'close', this.#onClose)
    put(watches, connection, this)
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

  /** Ends the watch, and calls all callbacks. */
  notify() {
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
    if (this.isClosed) this.notify()
  }

  #end() {
    if (find(watches, this.#connection) === this) remove(watches, this.#connection)
    removeListener(this.#connection, 'close', this.#onClose)
  }
}

/**
 * Calls back. An error becomes an uncaught exception, and keeps no other callback from its call.
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
  // A socket that is connecting may try several handles, one after another.
  return connection.connecting ? undefined : handleOf(connection)
}

/**
 * Returns whether a connection is really closed, after an event that anyone can emit.
 *
 * @param {import('node:net').Socket} connection
 * @param {object} [handle] that the connection had when it was connected, if that is known
 */
function isClosed(connection, handle) {
  if (handle !== undefined) return !isOpen(handle)
  // Nothing else can be asked. Other runtimes have other handles.
  if (!isNode || !(connection instanceof Duplex)) return true
  return isDestroyed(connection) && !(/** @type {any} */ (connection)._handle)
}

/**
 * Calls back once a connection is closed. Throws what a listener for 'newListener' throws, and then
 * never calls back.
 *
 * @param {import('node:net').Socket} connection not closed yet
 * @param {() => void} callback
 */
function onClosed(connection, callback) {
  let watch = /** @type {CloseWatch | undefined} */ (find(watches, connection))
  if (watch?.isClosed) {
    // The connection has connected again before it emitted 'close'.
    watch.notify()
    watch = undefined
  }
  watch ??= new CloseWatch(connection)
  watch.add(callback)
}

/**
 * Takes back a call of `onClosed`.
 *
 * @param {import('node:net').Socket} connection
 * @param {() => void} callback that `onClosed` was given
 */
function offClosed(connection, callback) {
  find(watches, connection)?.delete(callback)
}

module.exports = { handleWhenConnected, isClosed, offClosed, onClosed }
