'use strict'

/**
 * What Node knows of its own streams and messages. Anyone can emit an event, call a listener, or put a property on a
 * stream; so these are Node's getters and methods, as they were when cistern was loaded.
 */

const { EventEmitter } = require('node:events')
const { OutgoingMessage } = require('node:http')
const { Socket } = require('node:net')
const { Writable } = require('node:stream')
const { uncurry } = require('../runtime/intrinsics')

const { getOwnPropertyDescriptor } = Object

/**
 * A getter of a prototype as a function; the property itself where a runtime has no such getter.
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
/** Bytes of a stream that are not called back for yet. */
const lengthOf = getterOf(Writable.prototype, 'writableLength')
/** Bytes of a message, and of the socket that it is on, that are not called back for yet. */
const lengthOfMessage = getterOf(OutgoingMessage.prototype, 'writableLength')
const isDestroyed = getterOf(Writable.prototype, 'destroyed')
/** Whether a stream is destroyed and has told so, or is about to. */
const isClosing = getterOf(Writable.prototype, 'closed')
const isWritable = getterOf(Writable.prototype, 'writable')
const errorOf = getterOf(Writable.prototype, 'errored')
const dispatchedBy = getterOf(Socket.prototype, '_bytesDispatched')

/**
 * Whether a message keeps bytes of its own, which are on no connection yet. One that has not ended may keep some that
 * this does not show.
 *
 * @param {any} message
 */
const holdsBytes = (message) => message.outputData.length > 0

/**
 * Whether a socket may still send what it has called back for with an error: one that has never been connected does
 * that when it connects again, since Node leaves a listener behind.
 *
 * @param {import('node:net').Socket} socket
 */
function maySendYet(socket) {
  const hasFailed = errorOf(socket) || isDestroyed(socket)
  return Boolean(hasFailed) && !(dispatchedBy(socket) > 0)
}

const { on, removeListener } = EventEmitter.prototype

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
  /** @type {(emitter: object, event: string, listener: Function) => void} */
  removeListener: uncurry(removeListener),
  socketOf,
  writeMessage: uncurry(OutgoingMessage.prototype.write),
  writeStream: uncurry(Writable.prototype.write)
}
