'use strict'

/** The length that a message announces for its body. */

const { IncomingMessage } = require('node:http')

/**
 * The length that a message announces; `undefined` where it announces none.
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
 * Whether a message has no body, by what HTTP/1 says.
 *
 * @param {any} req
 */
function isBodiless(req) {
  if (!(req instanceof IncomingMessage)) return false
  const { statusCode, headers } = req
  // A server's: a request.
  if (typeof statusCode !== 'number') {
    return headers['content-length'] === undefined && headers['transfer-encoding'] === undefined
  }
  const { method } = /** @type {any} */ (req).req ?? {}
  return method === 'HEAD' || statusCode === 204 || statusCode === 304
}

/** How errors name a length that was announced. */
const BY_HEADER = 'Its Content-Length is'

module.exports = { BY_HEADER, announcedBy, isBodiless }
