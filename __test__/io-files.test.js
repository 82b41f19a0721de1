'use strict'

/**
 * Files through pooled blocks, with real files, servers and clients:
 *
 * - What arrives is the file, by its hash, however much others use and overwrite the pool's memory.
 * - A block is released when nobody reads or writes it any more, and not before.
 * - After any end, also a bad one, nothing is leased, no file is open and nobody listens.
 */

// First: cistern takes `fs.read` as it is when cistern is loaded.
const { spyOnRead } = require('./spied-read')
const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const crypto = require('node:crypto')
const { EventEmitter, getEventListeners, once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const http2 = require('node:http2')
const https = require('node:https')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { Duplex, PassThrough, Readable, Writable, pipeline } = require('node:stream')
const { after, before, describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const tls = require('node:tls')
const { pathToFileURL } = require('node:url')
const zlib = require('node:zlib')
const fc = require('fast-check')
const { BufferPool } = require('..')
const { chunks } = require('../lib/io/chunks')
const { GRACE_PERIOD } = require('../lib/io/operation')
const { pumpFile } = require('../lib/io/pump-file')
const { makeCertificate } = require('./certificate')
const { balanced, givesAtOnce, openFiles, until } = require('./helpers')

const KIB = 1024

/** Small, so that a file has many. */
const CHUNK = 64 * KIB

const isLinux = process.platform === 'linux'
const onlyLinux = { skip: !isLinux && 'as Linux has it' }

let folder = ''
/** A file of random bytes that is no multiple of any chunk's size, and its contents. */
let file = ''
let contents = Buffer.alloc(0)

before(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-io-'))
  contents = crypto.randomBytes(40 * CHUNK + 12_345)
  file = fileOf(contents)
})

after(() => fs.rmSync(folder, { recursive: true }))

/** A signal that throws. */
const unheard = {
  aborted: false,
  addEventListener() {
    throw new Error('on purpose')
  },
  removeEventListener() {}
}

/** A new file with these contents. */
function fileOf(bytes) {
  const name = path.join(folder, crypto.randomUUID())
  fs.writeFileSync(name, bytes)
  return name
}

/** A new FIFO. */
function fifo() {
  const name = path.join(folder, crypto.randomUUID())
  execFileSync('mkfifo', [name])
  return name
}

const hashOf = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex')

/** Asserts that bytes are these, without printing megabytes. */
function assertBytes(actual, expected) {
  assert.equal(actual.length, expected.length)
  assert.equal(hashOf(actual), hashOf(expected))
}

/**
 * What a pump has left when it is over: nothing, at once. Where a system call took longer than its grace period, what that
 * has follows.
 *
 * @param {BufferPool} pool
 * @param {number} start when the pump was told to end, or before
 * @param {() => string[]} [files] what it had opened that is still open
 */
async function leftNothing(pool, start, files = () => openFiles(folder)) {
  // A timer may fire a moment before its time.
  if (performance.now() - start < GRACE_PERIOD - 5) {
    assert.equal(pool.stats().inUseCount, 0)
    assert.deepEqual(files(), [])
  } else {
    await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
    await until(() => files().length === 0, 'no file is open')
  }
}

/** Waits until nothing is leased and no file is open any more. */
async function atRest(pool) {
  await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
  await until(() => openFiles(folder).length === 0, 'no file is open')
  await balanced(pool)
}

/** Overwrites whatever the pool has idle, in every turn of the event loop, until the test is over. */
function disturb(pool, context, size = CHUNK) {
  let immediate = setImmediate(function overwrite() {
    const blocks = Array.from({ length: 4 }, () => pool.allocUnsafe(size).fill(0xee))
    for (const block of blocks) pool.release(block)
    immediate = setImmediate(overwrite)
  })
  context.after(() => clearImmediate(immediate))
}

/** Runs a test on a pool that moves memory at release and on one that does not, both disturbed. */
function onDisturbedPools(run, settings = {}) {
  return async (context) => {
    for (const detachOnRelease of [true, false]) {
      await context.test(`detachOnRelease: ${detachOnRelease}`, async (context) => {
        const pool = new BufferPool({ detachOnRelease, ...settings })
        disturb(pool, context)
        await run(pool, context, detachOnRelease)
        await atRest(pool)
      })
    }
  }
}

/** How many listeners an emitter has, for each event. */
function listenersOf(emitter) {
  return Object.fromEntries(emitter.eventNames().map((name) => [name, emitter.listenerCount(name)]))
}

/** Closes a server, and whoever is connected. */
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

/** All that a Readable gives; with a pause now and then, if it is to be slow. */
async function drain(readable, { slowly = false } = {}) {
  const pieces = []
  let i = 0
  for await (const piece of readable) {
    pieces.push(Buffer.from(piece))
    if (slowly && i++ % 8 === 0) await sleep(3)
  }
  return Buffer.concat(pieces)
}

/** A connection to a server that answers with the file, and what it gets. */
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

/** An http(s) client's answer, read slowly. */
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

/** The two ends of a TCP connection. */
async function connection(context) {
  const server = net.createServer()
  const port = await listening(server, context)
  const accepted = once(server, 'connection')
  const client = net.connect(port, '127.0.0.1')
  const [socket] = await accepted
  return { socket, client }
}

/**
 * What a file can be written to. Each gives the writable to `serve`, which pumps and then ends it, and
 * returns what came out at the other end.
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
  'an http response on a stream that keeps what it gets': async (serve) => {
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
  'a Writable that keeps what it gets': async (serve) => {
    const kept = []
    const trimmer = new Writable({
      write(chunk, _encoding, callback) {
        kept.push(chunk)
        setImmediate(callback)
      }
    })
    const total = await serve(trimmer)
    await sleep(20)
    return { bytes: Buffer.concat(kept), total }
  },
  'a Writable in object mode': async (serve) => {
    const kept = []
    const trimmer = new Writable({
      objectMode: true,
      write(chunk, _encoding, callback) {
        kept.push(chunk)
        callback()
      }
    })
    const total = await serve(trimmer)
    return { bytes: Buffer.concat(kept), total }
  },
  'a socket with a method of its own': async (serve, context) => {
    const { socket, client } = await connection(context)
    const kept = keeping(socket, '_write')
    socket._writev = null
    client.resume()
    const total = await serve(socket)
    return { bytes: Buffer.concat(kept), total }
  },
  'an http2 stream over TLS with a method of its own': async (serve, context) => {
    const { writable, client } = await streaming(context, true)
    const kept = keeping(writable, '_write')
    writable._writev = null
    client.resume()
    const total = await serve(writable)
    return { bytes: Buffer.concat(kept), total }
  },
  'an http2 response over TLS with a method of its own': async (serve, context) => {
    let kept = []
    const { total } = await serveHttp(
      (res) => {
        kept = keeping(res, 'write')
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

/** Has a writable's method keep what it gets. Returns what that is. */
function keeping(writable, name) {
  const kept = []
  const method = writable[name]
  writable[name] = function keep(chunk, ...rest) {
    kept.push(chunk)
    return method.call(this, chunk, ...rest)
  }
  return kept
}

/** A response with methods in front of its own, as express's compression puts them there. */
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

describe('pumpFile', () => {
  for (const [name, send] of Object.entries(DESTINATIONS)) {
    test(
      `A file arrives at ${name}`,
      onDisturbedPools(async (pool, context) => {
        let writable
        const { bytes, total } = await send(async (destination) => {
          writable = destination
          const before = listenersOf(writable)
          const total = await pumpFile(pool, file, writable, { chunkSize: CHUNK })
          assert.equal(writable.writableEnded, false)
          assert.deepEqual(
            { ...before, drain: 0, ...listenersOf(writable) },
            { drain: 0, ...before }
          )
          writable.end()
          return total
        }, context)
        assert.equal(total, contents.length)
        assertBytes(bytes, contents)
      })
    )
  }

  test('A file of any size arrives, by path, URL, Buffer and FileHandle', async () => {
    const pool = new BufferPool()
    const chunkSize = 1000
    for (const size of [0, 1, 999, 1000, 1001, 1999, 2000, 2001, 5000]) {
      const bytes = crypto.randomBytes(size)
      const name = fileOf(bytes)
      const handle = await fs.promises.open(name)
      for (const source of [name, Buffer.from(name), pathToFileURL(name), handle]) {
        const sink = trimmer()
        assert.equal(await pumpFile(pool, source, sink, { chunkSize }), size)
        assertBytes(Buffer.concat(sink.kept), bytes)
      }
      await handle.close()
    }
    await atRest(pool)
  })

  test('A range is that of createReadStream: start and end included, cut at the end of the file', async () => {
    const pool = new BufferPool()
    const bytes = crypto.randomBytes(5000)
    const name = fileOf(bytes)
    const handle = await fs.promises.open(name)
    const position = fc.option(fc.nat(6000), { nil: undefined })
    const range = fc
      .record({ start: position, end: position, chunkSize: fc.integer({ min: 1, max: 3000 }) })
      .filter(({ start = 0, end = Infinity }) => start <= end)
    await fc.assert(
      fc.asyncProperty(range, fc.boolean(), async (options, byHandle) => {
        const { start = 0, end = Infinity } = options
        const sink = trimmer()
        const total = await pumpFile(pool, byHandle ? handle : name, sink, options)
        const expected = bytes.subarray(start, end + 1)
        assert.equal(total, expected.length)
        assertBytes(Buffer.concat(sink.kept), expected)
        assert.ok(sink.kept.every(({ length }) => length <= options.chunkSize))
      }),
      { numRuns: 100 }
    )
    await handle.close()
    await atRest(pool)
  })

  test('A FileHandle stays open, and its position where it was', async () => {
    const pool = new BufferPool()
    const handle = await fs.promises.open(file)
    const head = Buffer.alloc(10)
    await handle.read(head, 0, 10, null)
    const sink = trimmer()
    await pumpFile(pool, handle, sink)
    await assert.rejects(pumpFile(pool, handle, failing('after one'), { chunkSize: CHUNK }))
    assertBytes(Buffer.concat(sink.kept), contents)
    await handle.read(head, 0, 10, null)
    assertBytes(head, contents.subarray(10, 20))
    await handle.close()
    await atRest(pool)
  })

  test('Two blocks are leased, one while there is one chunk, and none that is larger than what is asked for', async (context) => {
    const peakOf = async (options, source = file) => {
      const pool = new BufferPool()
      const { socket, client } = await connection(context)
      const got = drain(client, { slowly: true })
      await pumpFile(pool, source, socket, options)
      socket.end()
      await got
      await atRest(pool)
      return pool.stats().peakInUseBytes
    }
    assert.equal(await peakOf({ chunkSize: CHUNK }), 2 * CHUNK)
    assert.equal(await peakOf({ chunkSize: CHUNK }, fileOf(contents.subarray(0, 100))), CHUNK)
    assert.equal(await peakOf({ chunkSize: CHUNK, start: 5, end: 1028 }), 1024)
  })

  test('While a client does not read, two blocks are leased, and nothing more is read', async (context) => {
    const pool = new BufferPool()
    const { socket, client } = await connection(context)
    const name = fileOf(Buffer.concat([contents, contents, contents, contents]))
    let reads = 0
    spyOnRead(context, (read, args) => {
      reads++
      return read(...args)
    })
    const pumping = pumpFile(pool, name, socket, { chunkSize: CHUNK })
    await stalled(pool, socket)
    const before = reads
    await sleep(50)
    assert.equal(reads, before)
    assert.equal(pool.stats().inUseBytes, 2 * CHUNK)
    const got = drain(client)
    assert.equal(await pumping, 4 * contents.length)
    socket.end()
    assertBytes(await got, fs.readFileSync(name))
    await atRest(pool)
  })

  for (const [name, { serve, sent }] of Object.entries({
    'a socket': { serve: connected, sent: (bytes) => bytes },
    'an http response': { serve: responding, sent: dechunked }
  })) {
    test(
      `What ${name} has when a pump is aborted stays as it is until it is sent`,
      onDisturbedPools(async (pool, context) => {
        const { writable, client } = await serve(context)
        const socket = writable.socket ?? writable
        const controller = new AbortController()
        const { signal } = controller
        const source = fileOf(Buffer.concat([contents, contents, contents, contents]))
        const before = [writable, socket].map(listenersOf)
        const pumping = pumpFile(pool, source, writable, { chunkSize: CHUNK, signal })
        await stalled(pool, socket)
        controller.abort('enough')
        await assert.rejects(pumping, { name: 'AbortError', code: 'ABORT_ERR', cause: 'enough' })
        assert.equal(getEventListeners(signal, 'abort').length, 0)
        assert.deepEqual(listenersOf(writable), before[0])
        // Its end would tell that the memory is free.
        const { close, ...others } = listenersOf(socket)
        assert.deepEqual({ ...others, close: close - (writable === socket ? 0 : 1) }, before[1])
        // What was read ahead is released, what is under way is not.
        await until(() => pool.stats().inUseCount === 1, 'the read has ended')
        await sleep(20)
        assert.equal(pool.stats().inUseCount, 1)
        writable.end()
        const bytes = sent(await drain(client))
        assert.ok((listenersOf(socket).close ?? 0) <= before[1].close)
        assert.ok(bytes.length >= CHUNK)
        assert.equal(bytes.length % CHUNK, 0)
        assertBytes(bytes, fs.readFileSync(source).subarray(0, bytes.length))
      })
    )
  }

  describe('A destination that dies', () => {
    /** How each dies, and what the pump is rejected with. */
    const deaths = {
      'a response is destroyed': {
        serve: responding,
        kill: ({ writable }) => writable.destroy(),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'a response is destroyed with an error': {
        serve: responding,
        kill: ({ writable }) => writable.destroy(new Error('mine')),
        error: { message: 'mine' }
      },
      'a client resets its connection': {
        serve: responding,
        kill: ({ client }) => client.resetAndDestroy(),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'a client closes its connection': {
        serve: responding,
        kill: ({ client }) => client.destroy(),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'a socket is reset': {
        serve: connected,
        kill: ({ client }) => client.resetAndDestroy(),
        error: /ECONNRESET|EPIPE/
      },
      'a socket is destroyed': {
        serve: connected,
        kill: ({ writable }) => writable.destroy(),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'an http2 stream is reset by its client': {
        serve: streaming,
        kill: ({ client }) => client.close(http2.constants.NGHTTP2_CANCEL),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'an http2 stream over TLS is reset by its client': {
        serve: (context) => streaming(context, true),
        kill: ({ client }) => client.close(http2.constants.NGHTTP2_CANCEL),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'an http2 session is destroyed': {
        serve: streaming,
        kill: ({ writable }) => writable.session.destroy(new Error('mine')),
        error: { message: 'mine' }
      },
      'a gzip is destroyed': {
        serve: async () => ({ writable: zlib.createGzip() }),
        kill: ({ writable }) => writable.destroy(new Error('mine')),
        error: { message: 'mine' }
      },
      'a PassThrough that nobody reads is destroyed': {
        serve: async () => ({ writable: new PassThrough() }),
        kill: ({ writable }) => writable.destroy(),
        error: { code: 'ERR_STREAM_PREMATURE_CLOSE' }
      },
      'an error is told by the callback of a write, later': {
        serve: async () => ({ writable: failing('later') }),
        kill: () => {},
        error: { message: 'it fails' }
      },
      'an error is told by the callback of a write, at once': {
        serve: async () => ({ writable: failing('at once') }),
        kill: () => {},
        error: { message: 'it fails' }
      },
      'an error is told by a callback alone': {
        serve: async () => ({ writable: telling() }),
        kill: () => {},
        error: { message: 'only told' }
      }
    }
    for (const [name, { serve, kill, error }] of Object.entries(deaths)) {
      test(
        `${name}: the pump is rejected, nothing is kept`,
        onDisturbedPools(async (pool, context) => {
          const ends = await serve(context)
          const { writable } = ends
          const before = listenersOf(writable)
          const source = fileOf(Buffer.concat([contents, contents, contents, contents]))
          const pumping = pumpFile(pool, source, writable, { chunkSize: CHUNK })
          const failed = assert.rejects(pumping, error)
          await Promise.race([failed, sleep(50)])
          kill(ends)
          await failed
          const now = listenersOf(writable)
          // Node's http2 may listen to 'finish' by now.
          for (const event of ['error', 'close', 'drain']) {
            assert.ok((now[event] ?? 0) <= (before[event] ?? 0), `${now[event]} to '${event}'`)
          }
          await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
          assert.equal(fs.existsSync(source), true)
        })
      )
    }

    test('A full disk', { skip: !fs.existsSync('/dev/full') }, async () => {
      const pool = new BufferPool()
      const writable = fs.createWriteStream('/dev/full')
      await assert.rejects(pumpFile(pool, file, writable), { code: 'ENOSPC' })
      await atRest(pool)
    })

    test('One that is destroyed, closed or ended already', async () => {
      const pool = new BufferPool()
      const dead = new PassThrough()
      dead.destroy()
      await assert.rejects(pumpFile(pool, file, dead), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
      const failed = new PassThrough().on('error', () => {})
      failed.destroy(new Error('mine'))
      await until(() => failed.closed, 'it is closed')
      await assert.rejects(pumpFile(pool, file, failed), { message: 'mine' })
      const ended = new PassThrough()
      ended.end('the end')
      await assert.rejects(pumpFile(pool, file, ended), { code: 'ERR_STREAM_WRITE_AFTER_END' })
      // It is not destroyed, and what is in it arrives.
      assert.equal(String(await drain(ended)), 'the end')
      assert.equal(pool.stats().allocCount, 0)
      assert.deepEqual(openFiles(folder), [])
    })

    test('One that its user ends meanwhile gets no more, and what it has arrives', async () => {
      const pool = new BufferPool()
      const sink = trimmer({ first: () => sink.end() })
      const pumping = pumpFile(pool, file, sink, { chunkSize: CHUNK })
      await assert.rejects(pumping, /write after end|Premature close/)
      await until(() => sink.writableFinished, 'it has finished')
      assert.equal(sink.errored, null)
      assertBytes(Buffer.concat(sink.kept), contents.subarray(0, CHUNK))
      await atRest(pool)
    })

    test('A response in line behind another, when their connection is closed', async (context) => {
      const pool = new BufferPool()
      const server = http.createServer()
      const responses = []
      server.on('request', (_req, res) => responses.push(res))
      const client = net.connect(await listening(server, context), '127.0.0.1')
      client.write('GET /1 HTTP/1.1\r\nhost: x\r\n\r\nGET /2 HTTP/1.1\r\nhost: x\r\n\r\n')
      await until(() => responses.length === 2, 'both requests have come')
      const pumping = pumpFile(pool, file, responses[1], { chunkSize: CHUNK })
      await sleep(20)
      client.destroy()
      await assert.rejects(pumping, /Premature close|aborted/)
      await atRest(pool)
    })

    test('A response in line behind another gets its file when it is its turn', async (context) => {
      const pool = new BufferPool()
      disturb(pool, context)
      const server = http.createServer()
      const responses = []
      server.on('request', (_req, res) => responses.push(res))
      const client = net.connect(await listening(server, context), '127.0.0.1')
      client.write(
        'GET /1 HTTP/1.1\r\nhost: x\r\n\r\nGET /2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'
      )
      await until(() => responses.length === 2, 'both requests have come')
      const [first, second] = responses
      second.setHeader('content-length', contents.length)
      const pumping = pumpFile(pool, file, second, { chunkSize: CHUNK })
      await sleep(20)
      first.setHeader('content-length', 0).end()
      const got = drain(client)
      assert.equal(await pumping, contents.length)
      second.end()
      assertBytes((await got).subarray(-contents.length), contents)
      await atRest(pool)
    })
  })

  describe('A source that fails', () => {
    const failures = {
      'no such file': { source: () => path.join(folder, 'none'), error: { code: 'ENOENT' } },
      'a directory': { source: () => folder, error: { code: 'EISDIR' } },
      'a path that is none': {
        source: () => 'a\0b',
        error: { code: 'ERR_INVALID_ARG_VALUE' }
      },
      'a URL of another kind': {
        source: () => new URL('http://localhost/'),
        error: { code: 'ERR_INVALID_URL_SCHEME' }
      },
      'a handle that is closed': {
        source: async () => {
          const handle = await fs.promises.open(file)
          await handle.close()
          return handle
        },
        error: { code: 'EBADF' }
      },
      'a handle that is not for reading': {
        source: async (context) => {
          const handle = await fs.promises.open(fileOf('abc'), 'a')
          context.after(() => handle.close())
          return handle
        },
        error: { code: 'EBADF' }
      }
    }
    for (const [name, { source, error }] of Object.entries(failures)) {
      test(name, async (context) => {
        const pool = new BufferPool()
        const sink = trimmer()
        const before = listenersOf(sink)
        const from = await source(context)
        const start = performance.now()
        await assert.rejects(pumpFile(pool, from, sink), error)
        assert.deepEqual(listenersOf(sink), before)
        assert.equal(sink.destroyed, false)
        const held = typeof from === 'object' && 'fd' in from && from.fd !== -1
        await leftNothing(pool, start, () => (held ? [] : openFiles(folder)))
      })
    }

    test(
      'an error in the middle, while a block is under way to a client',
      onDisturbedPools(async (pool, context) => {
        const { socket, client } = await connection(context)
        let reads = 0
        spyOnRead(context, (read, args) => {
          if (++reads < 6) return read(...args)
          const callback = args.at(-1)
          const failure = Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO' })
          return setImmediate(callback, failure, 0)
        })
        const pumping = pumpFile(pool, file, socket, { chunkSize: CHUNK })
        await assert.rejects(pumping, { code: 'EIO' })
        assert.deepEqual(openFiles(folder), [])
        socket.end()
        assertBytes(await drain(client), contents.subarray(0, 5 * CHUNK))
      })
    )

    test('a handle that is closed meanwhile: its close waits for the read', async () => {
      const pool = new BufferPool()
      const handle = await fs.promises.open(file)
      const sink = trimmer()
      const pumping = pumpFile(pool, handle, sink, { chunkSize: 1000 })
      await until(() => sink.kept.length > 5, 'some of it has come')
      const failed = assert.rejects(pumping, { code: 'EBADF' })
      await handle.close()
      await failed
      const bytes = Buffer.concat(sink.kept)
      assertBytes(bytes, contents.subarray(0, bytes.length))
      await atRest(pool)
    })
  })

  test('A read that is under way when the destination dies ends before its block is released', async (context) => {
    const pool = new BufferPool()
    const { writable } = await connected(context)
    const held = []
    spyOnRead(context, (read, args) => {
      held.push(() => read(...args))
    })
    const pumping = pumpFile(pool, file, writable, { chunkSize: CHUNK })
    const failed = assert.rejects(pumping, { code: 'ERR_STREAM_PREMATURE_CLOSE' })
    await until(() => held.length === 1, 'it reads')
    writable.destroy()
    // Not for ever: a read of a FIFO may never end.
    await failed
    assert.equal(pool.stats().inUseCount, 1)
    if (isLinux) assert.equal(openFiles(folder).length, 1)
    held[0]()
    await atRest(pool)
  })

  test('A pump is aborted before it begins: nothing is opened, nobody listens', async () => {
    const pool = new BufferPool()
    const sink = trimmer()
    const before = listenersOf(sink)
    const signal = AbortSignal.abort('never')
    const none = path.join(folder, 'none')
    await assert.rejects(pumpFile(pool, none, sink, { signal }), {
      name: 'AbortError',
      cause: 'never'
    })
    assert.equal(pool.stats().allocCount, 0)
    assert.deepEqual(listenersOf(sink), before)
    assert.equal(getEventListeners(signal, 'abort').length, 0)
  })

  test('A signal that can not be listened to: rejected, and nobody listens', async () => {
    const pool = new BufferPool()
    const sink = new PassThrough()
    const before = sink.eventNames()
    const options = { signal: unheard }
    await assert.rejects(pumpFile(pool, file, sink, options), { message: 'on purpose' })
    assert.deepEqual(sink.eventNames(), before)
    const source = new PassThrough()
    const quiet = source.eventNames()
    await assert.rejects(chunks(pool, source, options).next(), { message: 'on purpose' })
    assert.deepEqual(source.eventNames(), quiet)
    assert.equal(pool.stats().inUseCount, 0)
  })

  test('A pump is aborted between any two steps', async () => {
    const pool = new BufferPool()
    const source = fileOf(contents.subarray(0, 8 * CHUNK))
    let aborted = 0
    for (let turns = 0; turns < 60; turns++) {
      const controller = new AbortController()
      const { signal } = controller
      const sink = trimmer()
      const pumping = pumpFile(pool, source, sink, { chunkSize: CHUNK, signal }).catch((error) => {
        assert.equal(error.name, 'AbortError')
        aborted++
      })
      for (let i = 0; i < turns; i++) await new Promise(setImmediate)
      const start = performance.now()
      controller.abort()
      await pumping
      await leftNothing(pool, start)
      assert.equal(getEventListeners(signal, 'abort').length, 0)
      const bytes = Buffer.concat(sink.kept)
      assertBytes(bytes, contents.subarray(0, bytes.length))
    }
    assert.ok(aborted > 5)
    await atRest(pool)
  })

  test('A file that shrinks meanwhile: what was there', async () => {
    const pool = new BufferPool()
    const source = fileOf(contents.subarray(0, 10 * CHUNK))
    const sink = trimmer({ first: () => fs.truncateSync(source, 3 * CHUNK) })
    assert.equal(await pumpFile(pool, source, sink, { chunkSize: CHUNK }), 3 * CHUNK)
    assertBytes(Buffer.concat(sink.kept), contents.subarray(0, 3 * CHUNK))
    await atRest(pool)
  })

  test('A file that grows meanwhile: what is there when its end is reached, or up to the end asked for', async () => {
    const pool = new BufferPool()
    const size = 10 * CHUNK
    for (const [end, expected] of [
      [undefined, 12 * CHUNK],
      [size - 1, size]
    ]) {
      const source = fileOf(contents.subarray(0, size))
      const sink = trimmer({
        first: () => fs.appendFileSync(source, contents.subarray(size, size + 2 * CHUNK))
      })
      assert.equal(await pumpFile(pool, source, sink, { chunkSize: CHUNK, end }), expected)
      assertBytes(Buffer.concat(sink.kept), contents.subarray(0, expected))
    }
    await atRest(pool)
  })

  test('Files without a size or an end', onlyLinux, async () => {
    const pool = new BufferPool()
    const status = trimmer()
    const total = await pumpFile(pool, '/proc/self/status', status, { chunkSize: 100 })
    assert.ok(total > 100)
    assert.match(String(Buffer.concat(status.kept)), /^Name:/)
    const zeros = trimmer()
    const options = { chunkSize: CHUNK, end: 3 * CHUNK + 6 }
    assert.equal(await pumpFile(pool, '/dev/zero', zeros, options), 3 * CHUNK + 7)
    assertBytes(Buffer.concat(zeros.kept), Buffer.alloc(3 * CHUNK + 7))
    await atRest(pool)
  })

  for (const by of ['path', 'FileHandle']) {
    test(`A FIFO, by its ${by}: what comes, when it comes, to its end`, onlyLinux, async () => {
      const pool = new BufferPool()
      const name = fifo()
      const writer = fs.openSync(name, 'r+')
      const source = by === 'path' ? name : await fs.promises.open(name)
      const sink = trimmer()
      const pumping = pumpFile(pool, source, sink)
      fs.writeSync(writer, 'first')
      await until(() => sink.kept.length === 1, 'the first has come')
      fs.writeSync(writer, 'second')
      await until(() => sink.kept.length === 2, 'the second has come')
      fs.closeSync(writer)
      assert.equal(await pumping, 11)
      assert.equal(String(Buffer.concat(sink.kept)), 'firstsecond')
      if (by === 'FileHandle') await source.close()
      await atRest(pool)
    })
  }

  test('A FIFO that says nothing does not keep an abort from coming', onlyLinux, async () => {
    const pool = new BufferPool()
    const name = fifo()
    const writer = fs.openSync(name, 'r+')
    const controller = new AbortController()
    const pumping = pumpFile(pool, name, trimmer(), { signal: controller.signal })
    await until(() => pool.stats().inUseCount === 1, 'it reads')
    controller.abort()
    await assert.rejects(pumping, { name: 'AbortError' })
    assert.equal(pool.stats().inUseCount, 1)
    fs.writeSync(writer, 'late')
    await until(() => pool.stats().inUseCount === 0, 'the block is released after the read')
    fs.closeSync(writer)
    await atRest(pool)
  })

  test('A FIFO that nobody writes does not either', onlyLinux, async () => {
    const pool = new BufferPool()
    const name = fifo()
    const signal = abortedAfter(20)
    await assert.rejects(pumpFile(pool, name, trimmer(), { signal }), { name: 'AbortError' })
    // Lets its open end.
    fs.closeSync(fs.openSync(name, 'r+'))
    await atRest(pool)
  })

  describe('At the ceiling', () => {
    for (const onExhausted of ['unpooled', 'throw']) {
      for (const blocks of [1, 2, 3]) {
        test(`ten pumps take turns at ${blocks} blocks (onExhausted: '${onExhausted}')`, async (context) => {
          const pool = new BufferPool({ maxBytes: blocks * CHUNK, onExhausted })
          const pumpTo = async () => {
            const { socket, client } = await connection(context)
            const got = drain(client)
            await pumpFile(pool, file, socket, { chunkSize: CHUNK })
            socket.end()
            assertBytes(await got, contents)
          }
          await Promise.all(Array.from({ length: 10 }, pumpTo))
          const { peakInUseBytes, waitCount } = pool.stats()
          assert.ok(waitCount > 0)
          assert.ok(peakInUseBytes <= blocks * CHUNK)
          await atRest(pool)
        })
      }
    }

    test('a pump that waits can be aborted, or its destination die', async () => {
      const pool = new BufferPool({ maxBytes: CHUNK })
      const block = pool.allocUnsafe(CHUNK)
      const options = { chunkSize: CHUNK }
      const ending = new AbortController()
      const aborted = pumpFile(pool, file, trimmer(), { ...options, signal: ending.signal })
      await until(() => pool.stats().waitCount === 1, 'it waits')
      ending.abort()
      await assert.rejects(aborted, { name: 'AbortError' })
      const sink = trimmer()
      const pumping = pumpFile(pool, file, sink, options)
      await until(() => pool.stats().waitCount === 2, 'it waits')
      sink.destroy(new Error('mine'))
      await assert.rejects(pumping, { message: 'mine' })
      await until(() => openFiles(folder).length === 0, 'no file is open')
      pool.release(block)
      // Nobody stands in line any more.
      const last = trimmer()
      await pumpFile(pool, file, last, options)
      assertBytes(Buffer.concat(last.kept), contents)
      await atRest(pool)
    })

    test('a pool that is closed meanwhile', async () => {
      const pool = new BufferPool({ maxBytes: CHUNK })
      const block = pool.allocUnsafe(CHUNK)
      const waiting = pumpFile(pool, file, trimmer(), { chunkSize: CHUNK })
      await until(() => pool.stats().waitCount === 1, 'it waits')
      pool.close()
      await assert.rejects(waiting, { code: 'ERR_CISTERN_CLOSED' })
      pool.release(block)
      await atRest(pool)
    })

    test('a pool that is closed in the middle of a pump lets it end', async () => {
      const pool = new BufferPool()
      const sink = trimmer({ first: () => pool.close() })
      assert.equal(await pumpFile(pool, file, sink, { chunkSize: CHUNK }), contents.length)
      assertBytes(Buffer.concat(sink.kept), contents)
      await atRest(pool)
    })

    test('a block that the pool can never hold, and one that V8 has to serve', async () => {
      const small = new BufferPool({ maxBytes: CHUNK })
      const options = { chunkSize: 2 * CHUNK }
      const error = { code: 'ERR_CISTERN_EXHAUSTED' }
      await assert.rejects(pumpFile(small, file, trimmer(), options), error)
      await atRest(small)
      const pool = new BufferPool({ maxBlockSize: 1024 })
      const sink = trimmer()
      await pumpFile(pool, file, sink, options)
      assertBytes(Buffer.concat(sink.kept), contents)
      await atRest(pool)
    })
  })

  for (const [name, { serve, leave }] of Object.entries({
    'A client': { serve: responding, leave: ({ client }) => client.destroy() },
    'A socket': { serve: connected, leave: ({ writable }) => writable.destroy() }
  })) {
    test(`${name} that leaves with all, before the end of the file is found, has been served`, async (context) => {
      const pool = new BufferPool()
      const ends = await serve(context)
      const source = fileOf(contents.subarray(0, 100))
      const socket = ends.writable.socket ?? ends.writable
      const isSent = () => socket.bytesWritten > 0 && socket.writableLength === 0
      let reads = 0
      spyOnRead(context, (read, args) => {
        if (++reads === 1) return read(...args)
        until(isSent, 'it has all').then(() => {
          leave(ends)
          ends.writable.once('close', () => setImmediate(read, ...args))
        })
      })
      ends.client.resume()
      assert.equal(await pumpFile(pool, source, ends.writable), 100)
      await atRest(pool)
    })

    test(`${name} that leaves before it has all has not`, async (context) => {
      const pool = new BufferPool()
      const ends = await serve(context)
      let reads = 0
      spyOnRead(context, (read, args) => {
        if (++reads === 1) return read(...args)
        leave(ends)
        ends.writable.once('close', () => setImmediate(read, ...args))
      })
      ends.client.resume()
      const pumping = pumpFile(pool, file, ends.writable, { end: CHUNK + 4, chunkSize: CHUNK })
      await assert.rejects(pumping, { code: 'ERR_STREAM_PREMATURE_CLOSE' })
      await atRest(pool)
    })

    test(`${name} that leaves when all is read, but not written, has not`, async (context) => {
      const pool = new BufferPool()
      const ends = await serve(context)
      const { length } = contents
      const chunkSize = 4 * length
      const source = fileOf(Buffer.concat(Array.from({ length: 8 }, () => contents)))
      const pumping = pumpFile(pool, source, ends.writable, { end: 8 * length - 1, chunkSize })
      await stalled(pool, ends.writable.socket ?? ends.writable)
      leave(ends)
      await assert.rejects(pumping, { code: 'ERR_STREAM_PREMATURE_CLOSE' })
      await atRest(pool)
    })
  }

  test('After an abort, what is under way ends one by one', async (context) => {
    const pool = new BufferPool()
    const { writable, client } = await connected(context)
    const source = fileOf(Buffer.concat(Array.from({ length: 8 }, () => contents)))
    let reads = 0
    let hold = () => {}
    spyOnRead(context, (read, args) => {
      if (++reads === 1) return read(...args)
      hold = () => read(...args)
    })
    const controller = new AbortController()
    const { signal } = controller
    const options = { chunkSize: 4 * contents.length, signal }
    const pumping = pumpFile(pool, source, writable, options)
    await until(() => reads === 2 && writable.writableLength > 0, 'it writes and reads')
    controller.abort()
    await assert.rejects(pumping, { name: 'AbortError' })
    assert.equal(pool.stats().inUseCount, 2)
    client.resume()
    await until(() => pool.stats().inUseCount === 1, 'what is written is released')
    hold()
    await atRest(pool)
  })

  test('A response without a body takes a file and sends none', async (context) => {
    const pool = new BufferPool()
    const server = http.createServer(async (_req, res) => {
      res.setHeader('content-length', contents.length)
      assert.equal(await pumpFile(pool, file, res, { chunkSize: CHUNK }), contents.length)
      res.end()
    })
    const port = await listening(server, context)
    const bytes = await getHttp(http, port, { method: 'HEAD' })
    assert.equal(bytes.length, 0)
    await atRest(pool)
  })

  test('A write that throws is an error like any other', async (context) => {
    const pool = new BufferPool()
    const failed = new Promise((resolve) => {
      const server = http.createServer((_req, res) => {
        res.strictContentLength = true
        res.setHeader('content-length', 5)
        resolve(pumpFile(pool, file, res, { chunkSize: CHUNK }).finally(() => res.destroy()))
      })
      // Not one of Node's clients, which would leave as soon as it sees too many bytes.
      listening(server, context).then((port) => {
        const client = net.connect(port, '127.0.0.1').on('error', () => {})
        client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
        context.after(() => client.destroy())
      })
    })
    await assert.rejects(failed, { code: 'ERR_HTTP_CONTENT_LENGTH_MISMATCH' })
    await atRest(pool)
  })

  test('Nobody waits for a destination that is corked', async (context) => {
    const pool = new BufferPool()
    const source = fileOf(contents.subarray(0, 1000))
    for (const { writable, client } of [await connected(context), await responding(context)]) {
      writable.cork()
      assert.equal(await pumpFile(pool, source, writable), 1000)
      await atRest(pool)
      writable.uncork()
      writable.end()
      assert.ok((await drain(client)).includes(contents.subarray(0, 1000)))
    }
  })

  test(
    'A storm of clients, some of which leave: those who stay get the file',
    onDisturbedPools(async (pool, context) => {
      const outcomes = { fulfilled: 0, rejected: 0 }
      const asked = new Set()
      const server = http.createServer(async (req, res) => {
        asked.add(req.url)
        const signal = req.url === '/abort' ? abortedAfter(15) : undefined
        try {
          await pumpFile(pool, file, res, { chunkSize: CHUNK, signal })
          outcomes.fulfilled++
          res.end()
        } catch {
          outcomes.rejected++
          res.destroy()
        }
      })
      const port = await listening(server, context)
      const stay = async () => assertBytes(await getHttp(http, port), contents)
      const leave = (delay) => async () => {
        const client = net.connect(port, '127.0.0.1').on('error', () => {})
        const url = `/leave/${delay}`
        client.write(`GET ${url} HTTP/1.1\r\nhost: x\r\n\r\n`)
        if (delay % 2) client.resume()
        await until(() => asked.has(url), 'the request has come')
        await sleep(delay)
        if (delay % 4 < 2) client.resetAndDestroy()
        else client.destroy()
      }
      const stall = () => getHttp(http, port, { path: '/abort' }).catch(() => {})
      const clients = Array.from({ length: 36 }, (_, i) => [stay, leave(i), stall][i % 3])
      await Promise.all(clients.map((client) => client()))
      await until(() => outcomes.fulfilled + outcomes.rejected === 36, 'all pumps have ended')
      assert.ok(outcomes.fulfilled >= 12)
    })
  )

  test('A wrong argument names itself', async () => {
    const pool = new BufferPool()
    const sink = trimmer()
    const type = 'ERR_INVALID_ARG_TYPE'
    const range = 'ERR_OUT_OF_RANGE'
    const stream = fs.createReadStream(file)
    await once(stream, 'open')
    for (const [args, code, name] of [
      [[{}, file, sink], type, '"pool"'],
      [[pool, 3, sink], type, '"file"'],
      [[pool, undefined, sink], type, '"file"'],
      [[pool, stream, sink], type, '"file"'],
      [[pool, file, {}], type, '"writable"'],
      [[pool, file, undefined], type, '"writable"'],
      [[pool, file, sink, null], type, '"options"'],
      [[pool, file, sink, { start: '1' }], type, '"options.start"'],
      [[pool, file, sink, { start: -1 }], range, '"options.start"'],
      [[pool, file, sink, { end: NaN }], range, '"options.end"'],
      [[pool, file, sink, { end: 1.5 }], range, '"options.end"'],
      [[pool, file, sink, { start: 5, end: 4 }], range, '"options.start"'],
      [[pool, file, sink, { chunkSize: 0 }], range, '"options.chunkSize"'],
      [[pool, file, sink, { chunkSize: 2 ** 31 }], range, '"options.chunkSize"'],
      [[pool, file, sink, { chunkSize: '1' }], type, '"options.chunkSize"'],
      [[pool, file, sink, { signal: {} }], type, '"options.signal"']
    ]) {
      await assert.rejects(pumpFile(...args), (error) => {
        assert.equal(error.code, code)
        assert.ok(error.message.includes(name), error.message)
        return true
      })
    }
    stream.destroy()
    await once(stream, 'close')
    assert.equal(sink.kept.length, 0)
    assert.equal(pool.stats().allocCount, 0)
  })
})

describe('chunks', () => {
  test(
    'A file comes in chunks, by path, URL, Buffer and FileHandle; each is released when the loop moves on',
    onDisturbedPools(async (pool, _context, detaches) => {
      const handle = await fs.promises.open(file)
      for (const source of [file, Buffer.from(file), pathToFileURL(file), handle]) {
        const pieces = []
        let last
        for await (const chunk of chunks(pool, source, { chunkSize: CHUNK })) {
          // It, and the one that is read ahead.
          assert.ok(pool.stats().inUseCount <= 2)
          if (last !== undefined && detaches) assert.equal(last.length, 0)
          assert.ok(pool.owns(chunk))
          pieces.push(Buffer.from(chunk))
          last = chunk
          await new Promise(setImmediate)
        }
        assert.equal(pool.stats().inUseCount, 0)
        assert.ok(pieces.slice(0, -1).every(({ length }) => length === CHUNK))
        assertBytes(Buffer.concat(pieces), contents)
      }
      // Open, and where it was.
      const head = Buffer.alloc(10)
      await handle.read(head, 0, 10, null)
      assertBytes(head, contents.subarray(0, 10))
      await handle.close()
    })
  )

  test('A file of any size', async () => {
    const pool = new BufferPool()
    for (const size of [0, 1, 999, 1000, 1001, 2000, 2001]) {
      const bytes = crypto.randomBytes(size)
      const source = fileOf(bytes)
      const got = await drain(chunks(pool, source, { chunkSize: 1000 }))
      assertBytes(got, bytes)
      assertBytes(await drain(chunks(pool, source)), bytes)
    }
    await atRest(pool)
  })

  test('The next chunk of a file is read while the last is used, where there is room for it', async () => {
    for (const [maxBytes, expected] of [
      [CHUNK, 1],
      [2 * CHUNK, 2],
      [8 * CHUNK, 2]
    ]) {
      const pool = new BufferPool({ maxBytes })
      let pieces = 0
      for await (const chunk of chunks(pool, file, { chunkSize: CHUNK })) {
        pieces++
        if (chunk.length === CHUNK) assert.equal(pool.stats().inUseCount, expected)
      }
      assert.equal(pieces, 41)
      assert.equal(pool.stats().peakInUseBytes, expected * CHUNK)
      await atRest(pool)
    }
  })

  for (const [name, leave] of Object.entries({
    break: async (iterable) => {
      for await (const chunk of iterable) {
        if (chunk.length > 0) break
      }
    },
    throw: (iterable) =>
      assert.rejects(
        async () => {
          for await (const chunk of iterable) throw new Error(`mine: ${chunk.length}`)
        },
        { message: /^mine/ }
      ),
    'return()': async (iterable) => {
      await iterable.next()
      assert.deepEqual(await iterable.return('value'), { done: true, value: 'value' })
    },
    'throw()': async (iterable) => {
      await iterable.next()
      await assert.rejects(iterable.throw(new Error('mine')), { message: 'mine' })
    },
    'await using': async (iterable) => {
      await iterable.next()
      await iterable[Symbol.asyncDispose]()
    }
  })) {
    test(
      `${name}: everything is released and closed at once`,
      onDisturbedPools(async (pool) => {
        const readable = fs.createReadStream(file)
        const handle = await fs.promises.open(file)
        let hasEnded = false
        async function* generate() {
          try {
            for (;;) yield contents
          } finally {
            hasEnded = true
          }
        }
        let isCancelled = false
        const web = new ReadableStream({
          pull: (controller) => controller.enqueue(new Uint8Array(10)),
          cancel: () => {
            isCancelled = true
          }
        })
        for (const source of [file, handle, readable, web, generate()]) {
          const iterable = chunks(pool, source, { chunkSize: CHUNK })
          await leave(iterable)
          assert.equal(pool.stats().inUseCount, 0)
          assert.deepEqual(await iterable.next(), { done: true, value: undefined })
        }
        assert.ok(readable.destroyed)
        await handle.read(Buffer.alloc(1))
        await handle.close()
        assert.ok(hasEnded)
        assert.ok(isCancelled)
        assert.equal(web.locked, false)
      })
    )
  }

  test('A chunk that the user has released may be another one already', async () => {
    for (const detachOnRelease of [true, false]) {
      const pool = new BufferPool({ detachOnRelease })
      const others = []
      let total = 0
      for await (const chunk of chunks(pool, file, { chunkSize: CHUNK })) {
        total += chunk.length
        pool.release(chunk)
        others.push(pool.allocUnsafe(CHUNK))
      }
      assert.equal(total, contents.length)
      for (const other of others) {
        assert.ok(pool.owns(other))
        pool.release(other)
      }
      await atRest(pool)
    }
  })

  test("A chunk that the user has transferred, or marked as untransferable, is the user's", async () => {
    const pool = new BufferPool()
    const kept = []
    for await (const chunk of chunks(pool, file, { chunkSize: CHUNK })) {
      const view = new Uint8Array(chunk.buffer, 0, chunk.length)
      kept.push(structuredClone(view, { transfer: [view.buffer] }))
    }
    assertBytes(Buffer.concat(kept), contents)
    const { markAsUntransferable } = require('node:worker_threads')
    for await (const chunk of chunks(pool, file)) markAsUntransferable(chunk.buffer)
    assert.deepEqual(openFiles(folder), [])
  })

  test('Each can be iterated once', async () => {
    const pool = new BufferPool()
    const iterable = chunks(pool, file)
    assertBytes(await drain(iterable), contents)
    assert.equal((await drain(iterable)).length, 0)
    assert.deepEqual(await iterable.next(), { done: true, value: undefined })
    const left = chunks(pool, file)
    assert.deepEqual(await left.return(7), { done: true, value: 7 })
    assert.equal((await drain(left)).length, 0)
    await atRest(pool)
  })

  test(
    'Calls of next at once are served one after another, and their chunks released at the next call',
    onDisturbedPools(async (pool, _context, detaches) => {
      for (const source of [file, Readable.from([contents])]) {
        const iterator = chunks(pool, source, { chunkSize: CHUNK })
        const results = await Promise.all(Array.from({ length: 5 }, () => iterator.next()))
        await new Promise(setImmediate)
        const given = results.map(({ value }) => value)
        assertBytes(Buffer.concat(given), contents.subarray(0, 5 * CHUNK))
        assert.ok(given.every((chunk) => pool.owns(chunk)))
        await iterator.next()
        assert.ok(pool.stats().inUseCount <= 2)
        if (detaches) assert.ok(given.every(({ length }) => length === 0))
        const rest = Array.from({ length: 60 }, () => iterator.next())
        for (const { done } of await Promise.all(rest.slice(36))) assert.equal(done, true)
        await iterator.return()
      }
    })
  )

  test('What fails: rejected once, with nothing leased or open, and then it is over', async (context) => {
    const pool = new BufferPool()
    const broken = async function* broken() {
      yield 'abc'
      throw new Error('mine')
    }
    const locked = new ReadableStream()
    locked.getReader()
    for (const [source, error] of [
      [path.join(folder, 'none'), { code: 'ENOENT' }],
      [folder, { code: 'EISDIR' }],
      [new URL('http://localhost/'), { code: 'ERR_INVALID_URL_SCHEME' }],
      [broken(), { message: 'mine' }],
      [Readable.from(broken()), { message: 'mine' }],
      [Readable.from([1]), { code: 'ERR_INVALID_ARG_TYPE' }],
      [Readable.from([{}]), { code: 'ERR_INVALID_ARG_TYPE' }],
      [locked, { code: 'ERR_INVALID_STATE' }],
      [new PassThrough().destroy(), { code: 'ERR_STREAM_PREMATURE_CLOSE' }]
    ]) {
      const iterator = chunks(pool, source)
      const all = async () => {
        for (;;) if ((await iterator.next()).done) return
      }
      await assert.rejects(all, error)
      assert.equal(pool.stats().inUseCount, 0)
      assert.deepEqual(openFiles(folder), [])
      assert.deepEqual(await iterator.next(), { done: true, value: undefined })
    }
    let reads = 0
    spyOnRead(context, (read, args) => {
      if (++reads < 4) return read(...args)
      return setImmediate(args.at(-1), Object.assign(new Error('EIO'), { code: 'EIO' }), 0)
    })
    const pieces = []
    await assert.rejects(
      async () => {
        for await (const chunk of chunks(pool, file, { chunkSize: CHUNK })) {
          pieces.push(Buffer.from(chunk))
        }
      },
      { code: 'EIO' }
    )
    assertBytes(Buffer.concat(pieces), contents.subarray(0, 3 * CHUNK))
    await atRest(pool)
  })

  test('What came before an error is given before it, as for await gives it', async () => {
    const pool = new BufferPool()
    const broken = async function* broken() {
      yield 'a'
      yield 'bc'
      throw new Error('mine')
    }
    const unfit = async function* unfit() {
      yield 'abc'
      yield 5
    }
    const late = () => {
      const readable = new Readable({ read() {} })
      setImmediate(() => {
        readable.push('abc')
        setImmediate(() => readable.destroy(new Error('mine')))
      })
      return readable
    }
    const cut = () => {
      const readable = new Readable({ read() {} })
      setImmediate(() => {
        readable.push('abc')
        setImmediate(() => readable.destroy())
      })
      return readable
    }
    const mine = { message: 'mine' }
    for (const [source, error] of [
      [broken(), mine],
      [Readable.from(broken()), mine],
      [ReadableStream.from?.(broken()) ?? broken(), mine],
      [unfit(), { code: 'ERR_INVALID_ARG_TYPE' }],
      [Readable.from(unfit()), { code: 'ERR_INVALID_ARG_TYPE' }],
      [late(), mine],
      [cut(), { code: 'ERR_STREAM_PREMATURE_CLOSE' }]
    ]) {
      let given = ''
      const all = async () => {
        for await (const chunk of chunks(pool, source)) given += chunk
      }
      await assert.rejects(all, error)
      assert.equal(given, 'abc')
      assert.equal(pool.stats().inUseCount, 0)
    }
  })

  test('An iterator that has ended, or failed, is not asked to return, as for await does not', async () => {
    const pool = new BufferPool()
    const made = (last) => {
      const calls = []
      const results = [{ value: 'abc' }, last]
      const next = async () => {
        calls.push('next')
        const result = results.shift()
        if (result instanceof Error) throw result
        return result
      }
      const iterator = { next, return: async () => calls.push('return') }
      return { calls, [Symbol.asyncIterator]: () => iterator }
    }
    const ended = made({ done: true })
    for await (const chunk of chunks(pool, ended)) assert.equal(String(chunk), 'abc')
    assert.deepEqual(ended.calls, ['next', 'next'])
    const failed = made(new Error('mine'))
    await assert.rejects(
      async () => {
        for await (const chunk of chunks(pool, failed)) assert.equal(String(chunk), 'abc')
      },
      { message: 'mine' }
    )
    assert.deepEqual(failed.calls, ['next', 'next'])
    const left = made({ value: 5 })
    await assert.rejects(async () => {
      for await (const chunk of chunks(pool, left)) assert.equal(String(chunk), 'abc')
    })
    assert.deepEqual(left.calls, ['next', 'next', 'return'])
  })

  test('A duplex that ends is left as Node leaves it: it finishes, and fails with nothing', async () => {
    const pool = new BufferPool()
    for (const iterable of [(stream) => stream, (stream) => chunks(pool, stream)]) {
      const duplex = new PassThrough()
      const events = []
      for (const event of ['error', 'finish', 'close']) duplex.on(event, () => events.push(event))
      duplex.end()
      duplex.resume()
      for await (const chunk of iterable(duplex)) assert.fail(chunk)
      await until(() => duplex.closed, 'the duplex is closed')
      assert.deepEqual(events, ['finish', 'close'])
    }
  })

  test(
    'A body that is uploaded, over http, https and http2',
    onDisturbedPools(async (pool, context) => {
      const receive = async (req, res) => {
        const hash = crypto.createHash('sha256')
        for await (const chunk of chunks(pool, req, { chunkSize: CHUNK })) {
          await new Promise(setImmediate)
          hash.update(chunk)
        }
        res.end(hash.digest('hex'))
      }
      const send = async (client, options) => {
        const req = client.request({ host: '127.0.0.1', method: 'PUT', agent: false, ...options })
        pipeline(fs.createReadStream(file), req, () => {})
        const [res] = await once(req, 'response')
        return String(await drain(res))
      }
      const plain = await listening(http.createServer(receive), context)
      assert.equal(await send(http, { port: plain }), hashOf(contents))
      const encrypted = await listening(https.createServer(secure, receive), context)
      assert.equal(await send(https, { port: encrypted, ...secure }), hashOf(contents))
      const second = await listening(http2.createServer(receive), context)
      const session = http2.connect(`http://127.0.0.1:${second}`)
      const req = session.request({ ':method': 'PUT' })
      req.end(contents)
      assert.equal(String(await drain(req)), hashOf(contents))
      session.close()
    })
  )

  test('Small pieces of one turn share a chunk, too large ones are cut; none is lost, none is empty', async () => {
    const pool = new BufferPool()
    const sizes = fc.array(fc.nat(700), { maxLength: 60 })
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: 1, max: 1000 }), async (sizes, chunkSize) => {
        const bytes = crypto.randomBytes(sizes.reduce((sum, size) => sum + size, 0))
        const pieces = []
        let at = 0
        for (const size of sizes) {
          pieces.push(bytes.subarray(at, at + size))
          at += size
        }
        const got = []
        for await (const chunk of chunks(pool, Readable.from(pieces), { chunkSize })) {
          got.push(Buffer.from(chunk))
        }
        assertBytes(Buffer.concat(got), bytes)
        assert.ok(got.every(({ length }) => length > 0 && length <= chunkSize))
        assert.ok(got.slice(0, -1).every(({ length }) => length >= chunkSize / 2))
      }),
      { numRuns: 100 }
    )
    await atRest(pool)
  })

  test('Blocks that follow the stream grow only where the pool has room for it at once', async () => {
    const bytes = Buffer.alloc(20 * CHUNK, 1)
    const lengthOfAll = async (pool) => {
      let length = 0
      for await (const chunk of chunks(pool, Readable.from([bytes, bytes]))) length += chunk.length
      return length
    }
    const roomy = new BufferPool()
    assert.equal(await lengthOfAll(roomy), 2 * bytes.length)
    assert.ok(roomy.stats().allocCount < 20)
    for (const options of [
      { maxBytes: CHUNK },
      { maxBytes: 2 * CHUNK },
      { maxBytes: 4 * CHUNK },
      { maxBlockSize: CHUNK }
    ]) {
      const pool = new BufferPool(options)
      assert.equal(await lengthOfAll(pool), 2 * bytes.length)
      const { inUseCount, unpooledCount, waitCount } = pool.stats()
      assert.deepEqual([inUseCount, unpooledCount], [0, 0])
      // Else each block is waited for that a finalizer has to bring.
      if (givesAtOnce) assert.equal(waitCount, 0)
    }
    // The rest is held by the one who reads.
    const pool = new BufferPool({ maxBytes: 4 * CHUNK })
    const held = pool.lease(2 * CHUNK)
    assert.equal(await lengthOfAll(pool), 2 * bytes.length)
    held.release()
    await atRest(pool)
  })

  test('Pieces of every kind', async () => {
    const pool = new BufferPool()
    const all = (source, options) => drain(chunks(pool, source, options)).then(String)
    const bytes = new Uint8Array(Buffer.from('xabcdx'))
    assert.equal(await all(Readable.from(['ä', 'ö', ''])), 'äö')
    assert.equal(await all(Readable.from([new Uint8Array(bytes.buffer, 1, 4)])), 'abcd')
    assert.equal(await all(Readable.from([new DataView(bytes.buffer, 1, 4)])), 'abcd')
    assert.equal(await all(Readable.from([bytes.buffer])), 'xabcdx')
    const latin = Readable.from([Buffer.from('é', 'latin1')], { objectMode: false })
    latin.setEncoding('latin1')
    assert.deepEqual(await drain(chunks(pool, latin)), Buffer.from('é', 'latin1'))
    assert.equal(await all(new Blob(['blob']).stream()), 'blob')
    assert.equal(await all(new Response('response').body), 'response')
    assert.equal(await all(fs.createReadStream(fileOf('file'), 'utf8')), 'file')
    await atRest(pool)
  })

  test('A piece whose memory grows is what it was when it was given', async () => {
    const pool = new BufferPool()
    for (const Memory of [ArrayBuffer, SharedArrayBuffer]) {
      for (const viewOf of [(it) => it, (it) => new Uint8Array(it), (it) => new DataView(it)]) {
        const grow = (memory) => memory[memory instanceof ArrayBuffer ? 'resize' : 'grow'](10_000)
        const source = async function* source() {
          const memory = new Memory(2500, { maxByteLength: 10_000 })
          new Uint8Array(memory).fill('a'.charCodeAt(0))
          const piece = viewOf(memory)
          setImmediate(() => grow(memory))
          yield piece
          yield 'end'
        }
        const got = []
        for await (const chunk of chunks(pool, source(), { chunkSize: 1000 })) {
          got.push(String(chunk))
          await new Promise(setImmediate)
        }
        assert.equal(got.join(''), `${'a'.repeat(2500)}end`)
      }
    }
    await atRest(pool)
  })

  test('A piece that loses its memory before all of it is copied is an error: no byte is missing', async () => {
    const pool = new BufferPool()
    const losses = {
      shrinks: (memory) => memory.resize(1000),
      'is transferred': (memory) => structuredClone(memory, { transfer: [memory] })
    }
    for (const lose of Object.values(losses)) {
      const memory = new ArrayBuffer(2500, { maxByteLength: 10_000 })
      const iterator = chunks(pool, Readable.from([new Uint8Array(memory)]), { chunkSize: 1000 })
      assert.equal((await iterator.next()).value.length, 1000)
      lose(memory)
      await assert.rejects(iterator.next(), { code: 'ERR_INVALID_ARG_VALUE' })
      assert.deepEqual(await iterator.next(), { done: true, value: undefined })
      await atRest(pool)
    }
  })

  test('A FileHandle of Node is read into blocks, and its close waits for that', async (context) => {
    const pool = new BufferPool()
    const handle = await fs.promises.open(file)
    const held = []
    spyOnRead(context, (read, args) => {
      assert.ok(pool.owns(args[1]))
      held.push(() => read(...args))
    })
    const pending = chunks(pool, handle, { chunkSize: CHUNK }).next()
    await until(() => held.length === 1, 'it reads')
    let isClosed = false
    const closing = handle.close().then(() => {
      isClosed = true
    })
    await sleep(10)
    assert.equal(isClosed, false)
    assert.equal(openFiles(folder).length, isLinux ? 1 : 0)
    spyOnRead(context, (read, args) => read(...args))
    held[0]()
    assertBytes((await pending).value, contents.subarray(0, CHUNK))
    await closing
    const next = chunks(pool, handle).next()
    await assert.rejects(next, { code: 'EBADF' })
    pool.release((await pending).value)
    await atRest(pool)
  })

  test('A handle of somebody else gets no block, and what it says is checked', async () => {
    const pool = new BufferPool()
    const buffers = []
    const handleOf = (read) => ({ fd: 0, read, datasync() {} })
    const keep = handleOf(async (buffer, offset, length, position) => {
      buffers.push(buffer)
      return { bytesRead: contents.copy(buffer, offset, position, position + length) }
    })
    const got = []
    for await (const chunk of chunks(pool, keep, { chunkSize: CHUNK })) {
      for (const buffer of buffers) {
        assert.equal(pool.owns(buffer), false)
        assert.throws(() => pool.release(buffer), { code: 'ERR_CISTERN_NOT_POOLED' })
      }
      got.push(Buffer.from(chunk))
    }
    assertBytes(Buffer.concat(got), contents)
    const take = async (buffer) => ({
      bytesRead: structuredClone(buffer, { transfer: [buffer.buffer] }).length
    })
    for (const read of [
      async () => ({ bytesRead: CHUNK + 1 }),
      async () => ({ bytesRead: -1 }),
      async () => ({ bytesRead: 1.5 }),
      async () => ({ bytesRead: '1' }),
      async () => undefined,
      () => Promise.reject(),
      take
    ]) {
      await assert.rejects(drain(chunks(pool, handleOf(read), { chunkSize: CHUNK })), Error)
      await atRest(pool)
    }
  })

  test('A chunk does not wait for what the other end has not sent', async (context) => {
    const pool = new BufferPool()
    const { socket, client } = await connection(context)
    client.write('first')
    const got = []
    for await (const chunk of chunks(pool, socket)) {
      got.push(String(chunk))
      if (got.length === 1) client.write('second')
      else client.end()
    }
    assert.deepEqual(got, ['first', 'second'])
    await atRest(pool)
  })

  test('While a stream gives nothing, nothing is leased', async () => {
    const pool = new BufferPool()
    const through = new PassThrough()
    const pending = chunks(pool, through).next()
    await sleep(10)
    assert.equal(pool.stats().inUseCount, 0)
    through.end('late')
    const { value } = await pending
    assert.equal(String(value), 'late')
    pool.release(value)
    await atRest(pool)
  })

  describe('An abort', () => {
    const error = { name: 'AbortError', code: 'ABORT_ERR', cause: 'enough' }

    test("while the user has a chunk: it is the user's until the loop moves on", async () => {
      const pool = new BufferPool()
      for (const open of [() => file, () => fs.createReadStream(file)]) {
        const controller = new AbortController()
        const { signal } = controller
        const iterator = chunks(pool, open(), { chunkSize: CHUNK, signal })
        const { value } = await iterator.next()
        controller.abort('enough')
        await until(() => openFiles(folder).length === 0, 'the file is closed')
        assertBytes(value, contents.subarray(0, CHUNK))
        assert.equal(getEventListeners(signal, 'abort').length, 0)
        await assert.rejects(iterator.next(), error)
        await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
        assert.equal((await iterator.next()).done, true)
      }
    })

    test('while a stream gives nothing: it is destroyed', async (context) => {
      const pool = new BufferPool()
      const { socket, client } = await connection(context)
      const closed = once(client.resume(), 'close')
      for (const source of [new PassThrough(), socket, new ReadableStream()]) {
        const controller = new AbortController()
        const iterator = chunks(pool, source, { signal: controller.signal })
        const pending = assert.rejects(iterator.next(), error)
        await new Promise(setImmediate)
        controller.abort('enough')
        await pending
        if ('destroyed' in source) assert.ok(source.destroyed)
        else assert.equal(source.locked, false)
      }
      await closed
      await atRest(pool)
    })

    test('while a generator gives nothing', async () => {
      const pool = new BufferPool()
      async function* silent() {
        yield 'one'
        await new Promise(() => {})
      }
      const controller = new AbortController()
      const iterator = chunks(pool, silent(), { signal: controller.signal })
      assert.equal(String((await iterator.next()).value), 'one')
      const pending = assert.rejects(iterator.next(), error)
      controller.abort('enough')
      await pending
      await atRest(pool)
    })

    test('while it waits for memory', async () => {
      const pool = new BufferPool({ maxBytes: CHUNK })
      const block = pool.allocUnsafe(CHUNK)
      for (const source of [file, Readable.from(['abc'])]) {
        const controller = new AbortController()
        const { signal } = controller
        const { waitCount } = pool.stats()
        const pending = chunks(pool, source, { chunkSize: CHUNK, signal }).next()
        const failed = assert.rejects(pending, error)
        await until(() => pool.stats().waitCount > waitCount, 'it waits')
        controller.abort('enough')
        await failed
      }
      assert.equal(pool.stats().inUseCount, 1)
      pool.release(block)
      await atRest(pool)
    })

    test('before it begins: nothing is opened, a stream is destroyed', async () => {
      const pool = new BufferPool()
      const signal = AbortSignal.abort('enough')
      const none = chunks(pool, path.join(folder, 'none'), { signal })
      await assert.rejects(none.next(), error)
      const through = new PassThrough()
      await assert.rejects(chunks(pool, through, { signal }).next(), error)
      assert.ok(through.destroyed)
      assert.equal(getEventListeners(signal, 'abort').length, 0)
      assert.equal(pool.stats().allocCount, 0)
    })

    test('between any two steps', async () => {
      const pool = new BufferPool()
      const source = fileOf(contents.subarray(0, 6 * CHUNK))
      for (let turns = 0; turns < 40; turns++) {
        const controller = new AbortController()
        const { signal } = controller
        const pieces = []
        const reading = (async () => {
          for await (const chunk of chunks(pool, source, { chunkSize: CHUNK, signal })) {
            await new Promise(setImmediate)
            pieces.push(Buffer.from(chunk))
          }
        })().catch(({ name }) => assert.equal(name, 'AbortError'))
        for (let i = 0; i < turns; i++) await new Promise(setImmediate)
        controller.abort()
        await reading
        await until(() => openFiles(folder).length === 0, 'the file is closed')
        await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
        assert.equal(getEventListeners(signal, 'abort').length, 0)
        const bytes = Buffer.concat(pieces)
        assertBytes(bytes, contents.subarray(0, bytes.length))
      }
      await atRest(pool)
    })
  })

  test(
    'A FIFO: what comes, when it comes; its silence holds up no break and no abort',
    onlyLinux,
    async () => {
      const pool = new BufferPool()
      const name = fifo()
      const writer = fs.openSync(name, 'r+')
      fs.writeSync(writer, 'first')
      for await (const chunk of chunks(pool, name)) {
        assert.equal(String(chunk), 'first')
        break
      }
      const ending = new AbortController()
      const next = chunks(pool, name, { signal: ending.signal }).next()
      await until(() => pool.stats().inUseCount === 1, 'it reads')
      ending.abort()
      await assert.rejects(next, { name: 'AbortError' })
      assert.equal(pool.stats().inUseCount, 1)
      fs.writeSync(writer, 'late')
      await until(() => pool.stats().inUseCount === 0, 'the block is released after the read')
      fs.closeSync(writer)
      await atRest(pool)
    }
  )

  test('A return while a read is under way waits for it, and then nothing is leased', async (context) => {
    const pool = new BufferPool()
    const held = []
    spyOnRead(context, (read, args) => {
      held.push(() => read(...args))
    })
    const iterator = chunks(pool, file, { chunkSize: CHUNK })
    const pending = iterator.next()
    await until(() => held.length === 1, 'it reads')
    const returned = iterator.return()
    await sleep(10)
    assert.equal(pool.stats().inUseCount, 1)
    held[0]()
    await returned
    assert.deepEqual(await pending, { done: true, value: undefined })
    assert.equal(pool.stats().inUseCount, 0)
    assert.deepEqual(openFiles(folder), [])
    await atRest(pool)
  })

  test('Many at a ceiling take turns', async () => {
    const pool = new BufferPool({ maxBytes: 3 * CHUNK })
    const read = async () =>
      assertBytes(await drain(chunks(pool, file, { chunkSize: CHUNK })), contents)
    await Promise.all(Array.from({ length: 10 }, read))
    assert.ok(pool.stats().peakInUseBytes <= 3 * CHUNK)
    await atRest(pool)
  })

  test('A wrong argument names itself, at once', () => {
    const pool = new BufferPool()
    const type = 'ERR_INVALID_ARG_TYPE'
    const range = 'ERR_OUT_OF_RANGE'
    for (const [args, code, name] of [
      [[{}, file], type, '"pool"'],
      [[pool, 3], type, '"source"'],
      [[pool, undefined], type, '"source"'],
      [[pool, {}], type, '"source"'],
      [[pool, ['a']], type, '"source"'],
      [[pool, file, null], type, '"options"'],
      [[pool, file, { chunkSize: 0 }], range, '"options.chunkSize"'],
      [[pool, file, { chunkSize: 1.5 }], range, '"options.chunkSize"'],
      [[pool, file, { signal: 1 }], type, '"options.signal"']
    ]) {
      assert.throws(
        () => chunks(...args),
        (error) => error.code === code && error.message.includes(name)
      )
    }
  })
})

/** A signal that fires after so many ms. Unlike Node's own it keeps the process alive. */
function abortedAfter(delay) {
  const controller = new AbortController()
  setTimeout(() => controller.abort(), delay)
  return controller.signal
}

/** A Writable that keeps what it gets, and does something before it takes the second chunk. */
function trimmer({ first = () => {} } = {}) {
  const sink = new Writable({
    write(chunk, _encoding, callback) {
      sink.kept.push(chunk)
      if (sink.kept.length === 1) first()
      setImmediate(callback)
    }
  })
  sink.kept = []
  return sink
}

/** A Writable that fails. */
function failing(when) {
  let writes = 0
  return new Writable({
    write(_chunk, _encoding, callback) {
      const error = new Error('it fails')
      if (when === 'at once') callback(error)
      else if (when === 'after one' && writes++ === 0) callback()
      else setTimeout(callback, 5, error)
    }
  })
}

/** What has the methods of a Writable, and tells of an error by no event. */
function telling() {
  const writable = new EventEmitter()
  writable.write = (_chunk, _encoding, callback) => {
    setImmediate(callback, new Error('only told'))
    return false
  }
  writable.end = () => {}
  return writable
}

/** A socket's end, and its client, which does not read. */
async function connected(context) {
  const { socket, client } = await connection(context)
  client.on('error', () => {})
  return { writable: socket, client }
}

/** A response, and its client, which does not read. */
async function responding(context) {
  const server = http.createServer()
  const port = await listening(server, context)
  const client = net.connect(port, '127.0.0.1').on('error', () => {})
  client.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
  const [, writable] = await once(server, 'request')
  return { writable, client }
}

/** An http2 stream, and its client's, which does not read. */
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

/** The body of a response that came in chunks. */
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
