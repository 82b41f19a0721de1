'use strict'

/**
 * The writables that can be lent memory: those of Node's own that show when they are done with it.
 *
 * A stream's callback says that the stream takes more. It does not say that the stream is done with
 * the chunk: a PassThrough hands the very chunk on, and a user's stream may collect chunks. Node's
 * own:
 *
 * | writable | is done with a chunk |
 * |---|---|
 * | a socket, a file stream | when it has called back, or is closed |
 * | an http message on a socket | when it has called back, or its socket is closed |
 * | an http2 stream over TLS, which copies | when it has called back |
 * | an http2 stream without TLS | unknown: after a reset, its frames may still be under way |
 */

const fs = require('node:fs')
const http = require('node:http')
const https = require('node:https')
const { Socket } = require('node:net')
const process = require('node:process')
const { Duplex, Writable } = require('node:stream')
const { isProxy } = require('node:util').types
const { isNode } = require('../runtime/platform')
const { getterOf } = require('./stream-state')

const { WriteStream, write, writev } = fs
const { ClientRequest, OutgoingMessage } = http

/**
 * Loads a module of Node's at any time. This file's own `require` may belong to a module registry
 * that has ended.
 *
 * @type {(name: 'node:http2') => typeof import('node:http2')}
 */
const loadBuiltin = process.getBuiltinModule ?? require

/** The methods that users of a writable call, and those that the stream itself calls. */
const CALLED = /** @type {const} */ (['write', 'end'])
const WITHIN = /** @type {const} */ (['_write', '_writev', '_writeGeneric'])

/** The methods by which an agent gets connections. */
const AGENTS = ['addRequest', 'createSocket', 'createConnection']

const { getOwnPropertySymbols, getPrototypeOf, hasOwn } = Object
const descriptionOf = getterOf(Symbol.prototype, 'description')

// As they were when cistern was loaded. Code that replaces them may keep the chunk.
const madeMessage = methodsOf(OutgoingMessage.prototype)
const madeSocket = methodsOf(Socket.prototype)
const madeFile = methodsOf(WriteStream.prototype)
const madeStream = methodsOf(Writable.prototype)
const madeAgents = [http.Agent.prototype, https.Agent.prototype].map((prototype) => ({
  prototype,
  methods: AGENTS.map((name) => /** @type {any} */ (prototype)[name])
}))

/** @param {any} stream */
function methodsOf({ write, end, _write, _writev, _writeGeneric }) {
  return { write, end, _write, _writev, _writeGeneric }
}

/**
 * @typedef {'write' | 'end'} Called a method that will be called
 * @typedef {'message' | 'stream' | 'http2 stream' | 'http2 response'} Kind
 */

/**
 * Returns the kind of a writable that can be lent memory; `undefined` for any other, and for one
 * with a method of other code.
 *
 * @param {any} writable
 * @param {readonly Called[]} called
 * @returns {Kind | undefined}
 */
function kindOf(writable, called = CALLED) {
  // A Proxy can answer anything.
  if (!isNode || isProxy(writable)) return undefined
  if (isMessage(writable)) return isMessageAsMade(writable, called) ? 'message' : undefined
  if (writable instanceof Socket)
    return isAsMade(writable, madeSocket, called) ? 'stream' : undefined
  if (writable instanceof WriteStream) {
    return isAsMade(writable, madeFile, called) && writesByNode(writable) ? 'stream' : undefined
  }
  if (isEncryptedStream(writable, called)) return 'http2 stream'
  return isEncryptedResponse(writable, called) ? 'http2 response' : undefined
}

/**
 * @param {any} stream
 * @param {ReturnType<typeof methodsOf>} made
 * @param {readonly Called[]} called
 */
function isAsMade(stream, made, called) {
  return areAsMade(stream, made, called) && areAsMade(stream, made, WITHIN)
}

/**
 * Compares by index, because other code can patch the iteration of arrays.
 *
 * @param {any} stream
 * @param {any} made
 * @param {readonly string[]} names
 */
function areAsMade(stream, made, names) {
  for (let i = 0; i < names.length; i++) if (stream[names[i]] !== made[names[i]]) return false
  return true
}

/**
 * @param {unknown} writable
 * @returns {writable is import('node:http').OutgoingMessage}
 */
function isMessage(writable) {
  return writable instanceof OutgoingMessage
}

/**
 * @param {any} message
 * @param {readonly Called[]} called
 */
function isMessageAsMade(message, called) {
  if (!isAsMade(message, madeMessage, called)) return false
  const { socket } = message
  if (socket && !(socket instanceof Socket && isAsMade(socket, madeSocket, CALLED))) return false
  if (!(message instanceof ClientRequest)) return Boolean(socket)
  return !asksForTunnel(message) && (Boolean(socket) || willGetSocket(message))
}

/**
 * Returns whether a request, once it is answered, leaves its connection to its user, with all that
 * the connection has still to send.
 *
 * @param {import('node:http').ClientRequest} request
 */
function asksForTunnel(request) {
  return request.method === 'CONNECT' || request.getHeader('upgrade') !== undefined
}

/**
 * Returns whether a request without a connection will get one of Node's.
 *
 * @param {any} request
 */
function willGetSocket({ agent }) {
  if (!agent) return false
  const prototype = getPrototypeOf(agent)
  for (let i = 0; i < madeAgents.length; i++) {
    const made = madeAgents[i]
    if (made.prototype === prototype) return isAgentAsMade(agent, made.methods)
  }
  return false
}

/**
 * @param {any} agent
 * @param {Function[]} methods
 */
function isAgentAsMade(agent, methods) {
  for (let i = 0; i < AGENTS.length; i++) if (agent[AGENTS[i]] !== methods[i]) return false
  return true
}

/**
 * Returns whether a file stream writes by Node's own functions, and not by functions of its user's.
 *
 * @param {any} stream
 */
function writesByNode(stream) {
  if (fs.write !== write || fs.writev !== writev) return false
  const symbols = getOwnPropertySymbols(stream)
  let isFound = false
  for (let i = 0; i < symbols.length; i++) {
    if (descriptionOf(symbols[i]) !== 'kFs') continue
    // Other code can add a symbol of the same description. So each MUST lead to Node's functions.
    if (stream[symbols[i]] !== fs) return false
    isFound = true
  }
  return isFound
}

/**
 * Returns whether this is an http2 stream over TLS. Its class has no public name.
 *
 * @param {any} stream
 * @param {readonly Called[]} called
 */
function isEncryptedStream(stream, called) {
  if (!(stream instanceof Duplex && 'rstCode' in stream && 'session' in stream)) return false
  for (let i = 0; i < WITHIN.length; i++) if (hasOwn(stream, WITHIN[i])) return false
  const { session } = /** @type {any} */ (stream)
  return Boolean(session?.encrypted) && areAsMade(stream, madeStream, called)
}

/**
 * @param {any} res
 * @param {readonly Called[]} called
 */
function isEncryptedResponse(res, called) {
  if (res instanceof Writable || !res.stream?.session?.encrypted) return false
  // Only here, because the module takes a while to load.
  const { Http2ServerResponse } = loadBuiltin('node:http2')
  if (!(res instanceof Http2ServerResponse)) return false
  return areAsMade(res, Http2ServerResponse.prototype, called)
}

module.exports = { isMessage, kindOf }
