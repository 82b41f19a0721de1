'use strict'

/** Real servers on loopback, and clients of them: good ones, and sockets to misbehave with. */

const assert = require('node:assert/strict')
const { createHash, randomBytes } = require('node:crypto')
const { once } = require('node:events')
const http = require('node:http')
const http2 = require('node:http2')
const https = require('node:https')
const net = require('node:net')
const tls = require('node:tls')
const { makeCertificate } = require('./certificate')
const { balanced, until } = require('./helpers')

const HOST = '127.0.0.1'
const { key, cert } = makeCertificate()

/** The byte that nobody sends: the next owner of a block writes it. */
const ALIEN = 0xee

/**
 * @typedef {object} Call
 * @property {number} port
 * @property {string} [method]
 * @property {string} [path]
 * @property {Record<string, string | number>} [headers]
 * @property {Iterable<Buffer> | AsyncIterable<Buffer>} [chunks] of the body; without a
 *   Content-Length they go out as they are
 * @property {Record<string, string>} [trailers]
 *
 * @typedef {{ status: number, headers: object, body: Buffer }} Answer
 */

/** @param {typeof http | typeof https} module */
function byHttp1(module) {
  /** @param {Call} call */
  return async ({ port, method = 'POST', path = '/', headers = {}, chunks = [], trailers }) => {
    // The connection stays open: on one that is about to close, an early answer can get lost.
    const agent = new module.Agent({ keepAlive: true })
    const req = module.request({ host: HOST, port, method, path, headers, ca: cert, agent })
    const answered = answerTo(req)
    if (method === 'POST') req.flushHeaders()
    if (await pour(chunks, req, answered)) {
      if (trailers) req.addTrailers(trailers)
      req.end()
    }
    try {
      const [res] = await answered
      return { status: res.statusCode, headers: res.headers, body: await bodyOf(res) }
    } finally {
      req.destroy()
      agent.destroy()
    }
  }
}

/** @param {'http' | 'https'} scheme */
function byHttp2(scheme) {
  /** @param {Call} call */
  return async ({ port, method = 'POST', path = '/', headers = {}, chunks = [], trailers }) => {
    const session = http2.connect(`${scheme}://${HOST}:${port}`, { ca: cert })
    try {
      await once(session, 'connect')
      const req = session.request(
        { ':method': method, ':path': path, ...headers },
        { endStream: false, waitForTrailers: trailers !== undefined }
      )
      if (trailers) req.once('wantTrailers', () => req.sendTrailers(trailers))
      const answered = answerTo(req)
      if (await pour(chunks, req, answered)) req.end()
      const [answer] = await answered
      return { status: answer[':status'], headers: answer, body: await bodyOf(req) }
    } finally {
      session.destroy()
    }
  }
}

/**
 * Returns a promise of the answer to a request, which the caller may await later.
 *
 * @param {import('node:events').EventEmitter} req
 */
function answerTo(req) {
  const answered = new Promise((resolve, reject) => {
    req.once('response', (...args) => resolve(args))
    req.once('error', reject)
    req.once('close', () => reject(new Error('There is no answer')))
  })
  answered.catch(() => {})
  // Once it has answered, a server may go away.
  req.on('error', () => {})
  return answered
}

/**
 * Writes a body, and stops when the answer is there. Returns true if all of it is written.
 *
 * @param {Iterable<Buffer> | AsyncIterable<Buffer>} chunks
 * @param {import('node:stream').Writable} writable
 * @param {Promise<unknown>} answered
 */
async function pour(chunks, writable, answered) {
  let isAnswered = false
  const stop = answered.then(
    () => {
      isAnswered = true
    },
    () => {
      isAnswered = true
    }
  )
  for await (const chunk of chunks) {
    if (isAnswered || !writable.writable) return false
    if (!writable.write(chunk)) await Promise.race([once(writable, 'drain'), stop])
  }
  return !isAnswered
}

/** @param {AsyncIterable<Buffer>} readable */
async function bodyOf(readable) {
  const chunks = []
  for await (const chunk of readable) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** A server and a client of each kind. */
const TRANSPORTS = [
  {
    name: 'http',
    createServer: (handler) => http.createServer(handler),
    send: byHttp1(http),
    connect: (port) => net.connect(port, HOST)
  },
  {
    name: 'https',
    createServer: (handler) => https.createServer({ key, cert }, handler),
    send: byHttp1(https),
    connect: (port) => tls.connect({ host: HOST, port, ca: cert })
  },
  {
    name: 'http2 without TLS',
    isHttp2: true,
    scheme: 'http',
    createServer: (handler) => http2.createServer(handler),
    send: byHttp2('http'),
    connect: (port) => net.connect(port, HOST)
  },
  {
    name: 'http2',
    isHttp2: true,
    scheme: 'https',
    createServer: (handler) => http2.createSecureServer({ key, cert }, handler),
    send: byHttp2('https'),
    connect: (port) => tls.connect({ host: HOST, port, ca: cert, ALPNProtocols: ['h2'] })
  }
]

/** Frames of HTTP/2 that Node's own client would not send. */
const frames = {
  /**
   * @param {number} type
   * @param {number} flags
   * @param {number} stream
   * @param {Buffer} [payload]
   */
  frame(type, flags, stream, payload = Buffer.alloc(0)) {
    const header = Buffer.alloc(9)
    header.writeUIntBE(payload.length, 0, 3)
    header.writeUInt8(type, 3)
    header.writeUInt8(flags, 4)
    header.writeUInt32BE(stream, 5)
    return Buffer.concat([header, payload])
  },

  /**
   * Returns the opening of a connection, with a window of that many bytes for each stream, and
   * without a bound for all.
   *
   * @param {number} window
   */
  opening(window = 65_535) {
    const settings = Buffer.alloc(6)
    settings.writeUInt16BE(4)
    settings.writeUInt32BE(window, 2)
    return Buffer.concat([
      Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      frames.frame(4, 0, 0, settings),
      frames.frame(4, 1, 0),
      frames.frame(8, 0, 0, uint32(2 ** 31 - 1 - 65_535))
    ])
  },

  /**
   * Returns a request's headers.
   *
   * @param {number} stream
   * @param {{ method?: 'GET' | 'POST', path?: string, isLast?: boolean }} [options]
   */
  headers(stream, { method = 'POST', path = '/', isLast = false } = {}) {
    const text = Buffer.from(path)
    const block = Buffer.concat([
      // Entries of HPACK's static table: the method, http, the authority, the path.
      Buffer.from([method === 'GET' ? 0x82 : 0x83, 0x86, 0x01, 1, 0x61, 0x04, text.length]),
      text
    ])
    return frames.frame(1, isLast ? 5 : 4, stream, block)
  },

  /**
   * @param {number} stream
   * @param {Buffer} bytes
   */
  data: (stream, bytes) => frames.frame(0, 0, stream, bytes),

  /**
   * @param {number} stream
   * @param {number} code
   */
  reset: (stream, code) => frames.frame(3, 0, stream, uint32(code)),

  /**
   * The frames in what was received.
   *
   * @param {Buffer} bytes
   */
  *parse(bytes) {
    for (let at = 0; at + 9 <= bytes.length; ) {
      const length = bytes.readUIntBE(at, 3)
      const payload = bytes.subarray(at + 9, at + 9 + length)
      yield {
        type: bytes[at + 3],
        flags: bytes[at + 4],
        stream: bytes.readUInt32BE(at + 5),
        payload
      }
      at += 9 + length
    }
  }
}

/** @param {number} value */
function uint32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/**
 * Serves until `use` is done.
 *
 * @param {import('node:net').Server} server
 * @param {(port: number) => unknown} use
 */
async function serving(server, use) {
  const sockets = new Set()
  for (const event of ['connection', 'secureConnection']) {
    server.on(event, (socket) => {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => sockets.delete(socket))
    })
  }
  server.on('clientError', (_error, socket) => socket.destroy())
  server.on('sessionError', () => {})
  server.listen(0, HOST)
  await once(server, 'listening')
  try {
    return await use(/** @type {import('node:net').AddressInfo} */ (server.address()).port)
  } finally {
    for (const socket of sockets) socket.destroy()
    server.close()
  }
}

/**
 * Leases, overwrites and releases blocks of a size without end, so that a block that was released
 * too early shows.
 *
 * @param {import('../..').BufferPool} pool
 * @param {number} size
 * @returns {() => void} ends it
 */
function vandalize(pool, size) {
  const timer = setInterval(() => {
    const blocks = [pool.allocUnsafe(size), pool.allocUnsafe(size)]
    for (const block of blocks) pool.release(block.fill(ALIEN))
  }, 5).unref()
  return () => clearInterval(timer)
}

/**
 * Asserts that every lease of a pool ends, and by release: no garbage is collected here.
 *
 * @param {import('../..').BufferPool} pool
 */
async function allBack(pool) {
  const inUse = () => pool.stats().inUseCount
  await until(
    () => inUse() === 0,
    () => `nothing is leased; ${inUse()} are`
  )
  const stats = await balanced(pool)
  assert.equal(stats.allocCount, stats.releaseCount, 'every lease ended by a release')
  return stats
}

/** @param {Uint8Array} bytes */
const hash = (bytes) => createHash('sha256').update(bytes).digest('hex')

/**
 * Yields a body in pieces of at most `size` bytes.
 *
 * @param {Buffer} body
 * @param {number} size
 */
function* pieces(body, size) {
  for (let at = 0; at < body.length; at += size) yield body.subarray(at, at + size)
}

module.exports = {
  ALIEN,
  HOST,
  TRANSPORTS,
  allBack,
  bodyOf,
  cert,
  frames,
  hash,
  key,
  pieces,
  randomBytes,
  serving,
  vandalize
}
