'use strict'

/**
 * Everything that a file can be written to: responses, requests, sockets, streams and files, with
 * what comes out of them.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const http2 = require('node:http2')
const https = require('node:https')
const net = require('node:net')
const { Duplex, PassThrough, Writable, pipeline } = require('node:stream')
const { setTimeout: sleep } = require('node:timers/promises')
const tls = require('node:tls')
const zlib = require('node:zlib')
const { makeCertificate } = require('./certificate')
const { until } = require('./helpers')
const { CHUNK, contents, fileOf } = require('./files')

/** Closes a server and its connections after the test. */
function closing(server, context) {
  const sockets = new Set()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  context.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
}

/** Starts a server; returns its port. */
async function listening(server, context) {
  closing(server, context)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server.address().port
}

/** Returns all that a Readable gives. If it is to be slow, it pauses now and then. */
async function drain(readable, { slowly = false } = {}) {
  const pieces = []
  let i = 0
  for await (const piece of readable) {
    pieces.push(Buffer.from(piece))
    if (slowly && i++ % 8 === 0) await sleep(3)
  }
  return Buffer.concat(pieces)
}

/** Connects to a server that answers with the file. Returns the bytes that arrive. */
async function serveHttp(serve, context, { server, get }) {
  const done = new Promise((resolve, reject) => {
    server.on('request', (_req, res) => serve(res).then(resolve, reject))
  })
  const port = await listening(server, context)
  const bytes = await get(port)
  return { bytes, total: await done }
}

const certificate = makeCertificate()
const secure = { ...certificate, ca: certificate.cert }

/** Returns the answer that an http(s) client reads slowly. */
async function getHttp(client, port, options = {}) {
  const req = client.get({ host: '127.0.0.1', port, agent: false, ...options })
  const [res] = await once(req, 'response')
  return drain(res, { slowly: true })
}

async function getHttp2(url, options) {
  const session = http2.connect(url, options)
  try {
    return await drain(session.request({ ':path': '/' }), { slowly: true })
  } finally {
    session.close()
  }
}

/** Returns the two ends of a TCP connection. */
async function connection(context) {
  const server = net.createServer()
  const port = await listening(server, context)
  const accepted = once(server, 'connection')
  const client = net.connect(port, '127.0.0.1')
  const [socket] = await accepted
  return { socket, client }
}

/**
 * The destinations of a file. Each gives its writable to `serve`, which pumps and then ends it, and
 * returns the bytes that came out at the other end.
 */
const DESTINATIONS = {
  'an http response': (serve, context) =>
    serveHttp(serve, context, {
      server: http.createServer(),
      get: (port) => getHttp(http, port)
    }),
  'an http response with a length': (serve, context) =>
    serveHttp(
      (res) => {
        res.setHeader('content-length', contents.length)
        return serve(res)
      },
      context,
      { server: http.createServer(), get: (port) => getHttp(http, port) }
    ),
  'an http response on a stream that stores its chunks': async (serve) => {
    const kept = []
    const stream = new Duplex({
      read: () => {},
      write: (chunk, _encoding, callback) => {
        kept.push(chunk)
        setImmediate(callback)
      }
    })
    const server = http.createServer()
    server.emit('connection', stream)
    const requested = once(server, 'request')
    stream.push('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
    const [, res] = await requested
    const total = await serve(res)
    await until(() => res.writableFinished, 'it has finished')
    return { bytes: dechunked(Buffer.concat(kept)), total }
  },
  'an https response': (serve, context) =>
    serveHttp(serve, context, {
      server: https.createServer(secure),
      get: (port) => getHttp(https, port, secure)
    }),
  'an http2 response': (serve, context) =>
    serveHttp(serve, context, {
      server: http2.createServer(),
      get: (port) => getHttp2(`http://127.0.0.1:${port}`)
    }),
  'an http2 response over TLS': (serve, context) =>
    serveHttp(serve, context, {
      server: http2.createSecureServer(secure),
      get: (port) => getHttp2(`https://127.0.0.1:${port}`, secure)
    }),
  'an http2 stream': async (serve, context) => {
    const server = http2.createServer()
    const done = new Promise((resolve, reject) => {
      server.on('stream', (stream) => {
        stream.respond({ ':status': 200 })
        serve(stream).then(resolve, reject)
      })
    })
    const port = await listening(server, context)
    const bytes = await getHttp2(`http://127.0.0.1:${port}`)
    return { bytes, total: await done }
  },
  'an http2 stream over TLS': async (serve, context) => {
    const server = http2.createSecureServer(secure)
    const done = new Promise((resolve, reject) => {
      server.on('stream', (stream) => {
        stream.respond({ ':status': 200 })
        serve(stream).then(resolve, reject)
      })
    })
    const port = await listening(server, context)
    const bytes = await getHttp2(`https://127.0.0.1:${port}`, secure)
    return { bytes, total: await done }
  },
  'an http request': async (serve, context) => {
    const server = http.createServer()
    const port = await listening(server, context)
    const got = once(server, 'request').then(async ([req, res]) => {
      const bytes = await drain(req, { slowly: true })
      res.end()
      return bytes
    })
    const req = http.request({ host: '127.0.0.1', port, method: 'PUT', agent: false })
    const total = await serve(req)
    return { bytes: await got, total }
  },
  'a socket': async (serve, context) => {
    const { socket, client } = await connection(context)
    const got = drain(client, { slowly: true })
    const total = await serve(socket)
    return { bytes: await got, total }
  },
  'a TLS socket': async (serve, context) => {
    const server = tls.createServer(secure)
    const port = await listening(server, context)
    const accepted = once(server, 'secureConnection')
    const client = tls.connect({ port, host: '127.0.0.1', ...secure })
    const [socket] = await accepted
    const got = drain(client, { slowly: true })
    const total = await serve(socket)
    return { bytes: await got, total }
  },
  'a file': async (serve) => {
    const target = fileOf('')
    const writable = fs.createWriteStream(target)
    const total = await serve(writable)
    await once(writable, 'close')
    return { bytes: fs.readFileSync(target), total }
  },
  gzip: async (serve) => {
    const gzip = zlib.createGzip({ level: 1 })
    const got = drain(gzip, { slowly: true })
    const total = await serve(gzip)
    return { bytes: zlib.gunzipSync(await got), total }
  },
  'a PassThrough': async (serve) => {
    const through = new PassThrough({ highWaterMark: 4 * CHUNK })
    const got = drain(through, { slowly: true })
    const total = await serve(through)
    return { bytes: await got, total }
  },
  'a PassThrough to a file': async (serve) => {
    const target = fileOf('')
    const through = new PassThrough()
    const written = new Promise((resolve) => {
      pipeline(through, new PassThrough(), fs.createWriteStream(target), resolve)
    })
    const total = await serve(through)
    assert.ifError(await written)
    return { bytes: fs.readFileSync(target), total }
  },
  'a Writable that stores its chunks': async (serve) => {
    const kept = []
    const sink = new Writable({
      write(chunk, _encoding, callback) {
        kept.push(chunk)
        setImmediate(callback)
      }
    })
    const total = await serve(sink)
    await sleep(20)
    return { bytes: Buffer.concat(kept), total }
  },
  'a Writable in object mode': async (serve) => {
    const kept = []
    const sink = new Writable({
      objectMode: true,
      write(chunk, _encoding, callback) {
        kept.push(chunk)
        callback()
      }
    })
    const total = await serve(sink)
    return { bytes: Buffer.concat(kept), total }
  },
  'a socket with a method of its own': async (serve, context) => {
    const { socket, client } = await connection(context)
    const kept = recordWrites(socket, '_write')
    socket._writev = null
    client.resume()
    const total = await serve(socket)
    return { bytes: Buffer.concat(kept), total }
  },
  'an http2 stream over TLS with a method of its own': async (serve, context) => {
    const { writable, client } = await streaming(context, true)
    const kept = recordWrites(writable, '_write')
    writable._writev = null
    client.resume()
    const total = await serve(writable)
    return { bytes: Buffer.concat(kept), total }
  },
  'an http2 response over TLS with a method of its own': async (serve, context) => {
    let kept = []
    const { total } = await serveHttp(
      (res) => {
        kept = recordWrites(res, 'write')
        return serve(res)
      },
      context,
      {
        server: http2.createSecureServer(secure),
        get: (port) => getHttp2(`https://127.0.0.1:${port}`, secure)
      }
    )
    return { bytes: Buffer.concat(kept), total }
  },
  'a response that compresses, and calls nobody back': (serve, context) =>
    serveHttp((res) => serve(compressing(res)), context, {
      server: http.createServer(),
      get: async (port) => zlib.gunzipSync(await getHttp(http, port))
    })
}

/** Makes a writable's method record its chunks. Returns them. */
function recordWrites(writable, name) {
  const kept = []
  const method = writable[name]
  writable[name] = function keep(chunk, ...rest) {
    kept.push(chunk)
    return method.call(this, chunk, ...rest)
  }
  return kept
}

/** Puts methods in front of a response's own, as express's compression does. */
function compressing(res) {
  const gzip = zlib.createGzip({ level: 1 })
  const { end, on, write } = res
  res.write = (chunk) => gzip.write(chunk)
  res.end = () => gzip.end()
  res.on = (event, listener) => {
    if (event === 'drain') gzip.on(event, listener)
    else on.call(res, event, listener)
    return res
  }
  gzip.on('data', (chunk) => {
    if (!write.call(res, chunk)) gzip.pause()
  })
  on.call(res, 'drain', () => gzip.resume())
  gzip.on('end', () => end.call(res))
  return res
}

/** Returns a socket's end, and its client, which does not read. */
async function connected(context) {
  const { socket, client } = await connection(context)
  client.on('error', () => {})
  return { writable: socket, client }
}

/** Returns a response, and its client, which does not read. */
async function responding(context) {
  const server = http.createServer()
  const port = await listening(server, context)
  const client = net.connect(port, '127.0.0.1').on('error', () => {})
  client.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
  const [, writable] = await once(server, 'request')
  return { writable, client }
}

/** Returns an http2 stream, and its client's, which does not read. */
async function streaming(context, isSecure = false) {
  const server = isSecure ? http2.createSecureServer(secure) : http2.createServer()
  const port = await listening(server, context)
  const address = `${isSecure ? 'https' : 'http'}://127.0.0.1:${port}`
  const session = http2.connect(address, secure).on('error', () => {})
  context.after(() => session.destroy())
  const client = session.request({ ':path': '/' }).on('error', () => {})
  const [writable] = await once(server, 'stream')
  writable.respond({ ':status': 200 })
  writable.session.on('error', () => {})
  return { writable, client }
}

/** Waits until a socket that nobody reads from has taken all it can. */
async function stalled(pool, socket) {
  await until(async () => {
    const { bytesWritten } = socket
    await sleep(50)
    const isStill = socket.writableLength > 0 && socket.bytesWritten === bytesWritten
    return isStill && pool.stats().inUseCount === 2
  }, 'it has stalled')
}

/** Returns the body of a response that came in chunks. */
function dechunked(bytes) {
  const pieces = []
  let at = bytes.indexOf('\r\n\r\n') + 4
  for (;;) {
    const end = bytes.indexOf('\r\n', at)
    const size = Number.parseInt(bytes.toString('latin1', at, end), 16)
    if (!size) return Buffer.concat(pieces)
    pieces.push(bytes.subarray(end + 2, end + 2 + size))
    at = end + 4 + size
  }
}

module.exports = {
  DESTINATIONS,
  connected,
  connection,
  dechunked,
  drain,
  getHttp,
  listening,
  responding,
  secure,
  stalled,
  streaming
}
