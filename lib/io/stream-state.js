'use strict'

/**
 * Reads the state that Node keeps of its own streams and messages. Anyone can emit an event, call a
 * listener, or put a property on a stream. So these are Node's getters and methods, as they were
 * when cistern was loaded.
 */

const { EventEmitter } = require('node:events')
const { OutgoingMessage } = require('node:http')
const { Socket } = require('node:net')
const { Writable } = require('node:stream')
const { uncurry } = require('../runtime/intrinsics')

const { getOwnPropertyDescriptor } = Object

/**
 * Returns a getter of a prototype as a function; where a runtime has no such getter, a function
 * that reads the property itself.
 *
 * @param {object} prototype
 * @param {string} name
 * @returns {(self: any) => any}
 */
function getterOf(prototype, name) {
  const get = getOwnPropertyDescriptor(prototype, name)?.get
  return get === undefined ? (self) => self[name] : uncurry(get)
}

const socketOf = getterOf(OutgoingMessage.prototype, 'socket')
/** Bytes that a stream has taken and not called back for yet. */
const lengthOf = getterOf(Writable.prototype, 'writableLength')
/** Bytes that a message and its socket have taken and not called back for yet. */
const lengthOfMessage = getterOf(OutgoingMessage.prototype, 'writableLength')
const isDestroyed = getterOf(Writable.prototype, 'destroyed')
/** Whether a stream is destroyed and has emitted 'close', or is about to. */
const isClosing = getterOf(Writable.prototype, 'closed')
const isWritable = getterOf(Writable.prototype, 'writable')
const errorOf = getterOf(Writable.prototype, 'errored')
const dispatchedBy = getterOf(Socket.prototype, '_bytesDispatched')

/**
 * Returns whether a message keeps bytes that are on no connection yet. A message that has not ended
 * may keep some that this does not show.
 *
 * @param {any} message
 */
const holdsBytes = (message) => message.outputData.length > 0

/**
 * Returns whether a socket may still send what it has called back for with an error. A socket that
 * was never connected sends it when it connects again, because Node leaves a listener behind.
 *
 * @param {import('node:net').Socket} socket
 */
function maySendYet(socket) {
  const hasFailed = errorOf(socket) || isDestroyed(socket)
  return Boolean(hasFailed) && !(dispatchedBy(socket) > 0)
}

const { on } = EventEmitter.prototype
/** @type {(emitter: object, event: string, listener: Function) => void} */
const removeByNode = uncurry(EventEmitter.prototype.removeListener)

/**
 * Removes a listener. Node calls the user's listeners for 'removeListener' after that, and they may
 * throw.
 *
 * @param {object} emitter
 * @param {string} event
 * @param {Function} listener
 */
function removeListener(emitter, event, listener) {
  try {
    removeByNode(emitter, event, listener)
  } catch {
    // As above.
  }
}

module.exports = {
  /** @type {(emitter: object, event: string, listener: Function) => void} */
  addListener: uncurry(on),
  endMessage: uncurry(OutgoingMessage.prototype.end),
  errorOf,
  getterOf,
  holdsBytes,
  isClosing,
  isDestroyed,
  isWritable,
  lengthOf,
  lengthOfMessage,
  maySendYet,
  removeListener,
  socketOf,
  writeMessage: uncurry(OutgoingMessage.prototype.write),
  writeStream: uncurry(Writable.prototype.write)
}
