'use strict'

/** Reads Node's state of a message's body: its length, whether it can be read, and its bytes. */

const { Buffer } = require('node:buffer')
const { IncomingMessage } = require('node:http')
const { BodyUsed, InvalidArgType, InvalidArgValue, PrematureClose } = require('../pool/errors')
const { isUint8Array } = require('../runtime/intrinsics')
const { wasCutOff } = require('./http2-reset')

const { from } = Buffer

/**
 * Returns the length that a message announces; `undefined` where it announces none.
 *
 * @param {any} req
 */
function announcedBy(req) {
  if (isBodiless(req)) return undefined
  const { 'content-length': length, 'transfer-encoding': encoding } = req.headers ?? {}
  if (encoding !== undefined || !/^\d+$/.test(length)) return undefined
  const bytes = Number(length)
  return Number.isInteger(bytes) && bytes >= 0 ? bytes : undefined
}

/**
 * Returns whether HTTP/1 gives a message no body.
 *
 * @param {any} req
 */
function isBodiless(req) {
  if (!(req instanceof IncomingMessage)) return false
  const { statusCode, headers } = req
  // Only responses have a status.
  if (typeof statusCode !== 'number') {
    return headers['content-length'] === undefined && headers['transfer-encoding'] === undefined
  }
  const { method } = /** @type {any} */ (req).req ?? {}
  return method === 'HEAD' || statusCode === 204 || statusCode === 304
}

/** How errors name a length that was announced. */
const BY_HEADER = 'Its Content-Length is'

/**
 * Returns the error for a body that can not be read any more; `undefined` where it can be read.
 *
 * @param {any} req
 */
function flawOf(req) {
  if (req.readableEnded && req.readableDidRead) return new BodyUsed(req)
  if (req.errored) return req.errored
  if (isBroken(req) || (req.destroyed && !req.readableEnded)) return new PrematureClose()
  // A listener for 'readable' takes the bytes away.
  if (req.readableDidRead || req.listenerCount('readable') > 0) return new BodyUsed(req)
  const { readableEncoding } = req
  if (readableEncoding) return new InvalidArgValue('req', DECODES, readableEncoding)
  return undefined
}

const DECODES = 'must give bytes, and decodes them: setEncoding() was called'

/**
 * Returns whether a message was cut off. An http2 request then ends like one that is whole.
 *
 * @param {any} req
 */
function isBroken(req) {
  return req.aborted === true || (req.stream ?? req).rstCode > 0 || wasCutOff(req)
}

/**
 * Returns the bytes of a chunk. A string becomes UTF-8, as in a writable.
 *
 * @param {unknown} chunk
 * @param {any} req
 * @returns {Uint8Array}
 */
function bytesOf(chunk, req) {
  if (isUint8Array(chunk)) return chunk
  if (typeof chunk !== 'string') throw new InvalidArgType('chunk', CHUNK, chunk)
  const { readableEncoding } = req
  // The string does not show the bytes that it was decoded from.
  if (readableEncoding) throw new InvalidArgValue('req', DECODES, readableEncoding)
  return from(chunk)
}

const CHUNK = 'of type string, or an instance of Buffer or Uint8Array'

module.exports = { BY_HEADER, announcedBy, bytesOf, flawOf, isBodiless, isBroken }
