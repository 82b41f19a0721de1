'use strict'

/**
 * Shared by the tests of `readBody`: servers that hash each body, and clients that send raw HTTP/1.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const net = require('node:net')
const { readBody } = require('../../lib/io')
const { until } = require('./helpers')
const { HOST, TRANSPORTS, bodyOf, hash } = require('./io-servers')

const KIB = 1024
const MIB = 1024 * KIB
const EVENTS = ['data', 'end', 'error', 'close', 'aborted', 'readable', 'pause', 'resume']

/**
 * Returns the number of listeners that a request has of each kind.
 *
 * @param {import('node:events').EventEmitter} req
 */
const listenersOf = (req) => EVENTS.map((event) => req.listenerCount(event))

/**
 * The outcome of a body.
 *
 * @typedef {{ hash?: string, length?: number, error?: any, req: any }} Outcome
 */

/**
 * Returns a server that reads each body, notes its outcome, and answers with its hash.
 *
 * @param {{ createServer: (handler: Function) => any }} transport
 * @param {BufferPool} pool
 * @param {object} [options]
 */
function hashing(transport, pool, options = {}) {
  /** @type {Outcome[]} */
  const outcomes = []
  /** @type {any[]} */
  const requests = []
  const server = transport.createServer(async (req, res) => {
    const before = listenersOf(req)
    requests.push(req)
    try {
      const lease = await readBody(pool, req, options)
      const { length } = lease.buffer
      const outcome = { hash: hash(lease.buffer), length, req }
      lease.release()
      outcomes.push(outcome)
      res.end(outcome.hash)
    } catch (error) {
      outcomes.push({ error, req })
      res.statusCode = error.statusCode ?? 500
      res.end(error.code)
    }
    // Once the outcome is there, nothing of ours listens.
    outcomes.at(-1).listeners = [before, listenersOf(req)]
  })
  return { server, outcomes, requests }
}

/** @param {Outcome[]} outcomes */
async function onlyOutcome(outcomes) {
  await until(() => outcomes.length > 0, 'the body has an outcome')
  assert.equal(outcomes.length, 1)
  return outcomes[0]
}

/** Sends raw HTTP/1 to a server, and gives what it answers until the connection is closed. */
async function say(port, ...texts) {
  const socket = net.connect(port, HOST)
  await once(socket, 'connect')
  const answer = bodyOf(socket).catch(() => Buffer.alloc(0))
  for (const text of texts) {
    if (typeof text === 'function') await text(socket)
    else if (!socket.destroyed) socket.write(text)
  }
  return { socket, answer: answer.then(String) }
}

/** @param {...string} headers */
const head = (...headers) => `${['POST / HTTP/1.1', 'Host: a', ...headers].join('\r\n')}\r\n\r\n`

const [plain] = TRANSPORTS

module.exports = { KIB, MIB, hashing, head, listenersOf, onlyOutcome, plain, say }
