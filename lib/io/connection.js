'use strict'

/**
 * Tells when a connection is closed. As many as like can ask, with one listener of ours on it: a client that
 * sends request upon request without waiting would else have us warned of a leak.
 */

/** @type {WeakMap<import('node:net').Socket, Asking>} */
const askingOf = new WeakMap()

/** Those who ask after one connection. */
class Asking {
  #connection
  /** @type {Set<() => void>} */
  #callbacks = new Set()

  /** @param {import('node:net').Socket} connection */
  constructor(connection) {
    this.#connection = connection
    askingOf.set(connection, this)
    connection.on('close', this.#onClose)
  }

  /** @param {() => void} callback */
  add(callback) {
    this.#callbacks.add(callback)
  }

  /** @param {() => void} callback */
  delete(callback) {
    this.#callbacks.delete(callback)
    if (this.#callbacks.size === 0) this.#end()
  }

  #onClose = () => {
    // Anyone can emit the event; the state is Node's.
    if (this.#connection.closed === false) return
    this.#end()
    for (const callback of this.#callbacks) callback()
  }

  #end() {
    askingOf.delete(this.#connection)
    this.#connection.removeListener('close', this.#onClose)
  }
}

/**
 * @param {import('node:net').Socket} connection not closed yet
 * @param {() => void} callback
 */
function onClosed(connection, callback) {
  const asking = askingOf.get(connection) ?? new Asking(connection)
  asking.add(callback)
}

/**
 * @param {import('node:net').Socket} connection
 * @param {() => void} callback that `onClosed` was given
 */
function offClosed(connection, callback) {
  askingOf.get(connection)?.delete(callback)
}

module.exports = { offClosed, onClosed }
