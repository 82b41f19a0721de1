'use strict'

/** `readBody` over real servers: bodies, limits, `Expect: 100-continue` and signals. */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const http = require('node:http')
const http2 = require('node:http2')
const { PassThrough, Readable } = require('node:stream')
const { describe, test } = require('node:test')
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { end, readBody } = require('../../lib/io')
const { inEveryMode, runScript, until } = require('../support/helpers')
const {
  HOST,
  TRANSPORTS,
  allBack,
  bodyOf,
  cert,
  hash,
  pieces,
  randomBytes,
  serving
} = require('../support/io-servers')
const { KIB, MIB, hashing, head, onlyOutcome, plain, say } = require('../support/read-body')

describe('readBody', () => {
  for (const transport of TRANSPORTS) {
    test(`reads bodies of any length over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const { server, outcomes } = hashing(transport, pool)
      await serving(server, async (port) => {
        const sizes = [0, 1, 63, 64, 65, 16_383, 16_384, 16_385, 65_536, 100_000, 3 * MIB + 7]
        for (const size of sizes) {
          const body = randomBytes(size)
          for (const headers of [{ 'content-length': size }, {}]) {
            outcomes.length = 0
            const chunks = pieces(body, 50_000)
            const answer = await transport.send({ port, headers, chunks })
            assert.equal(String(answer.body), hash(body), `${size} bytes`)
            const { length, listeners } = await onlyOutcome(outcomes)
            assert.equal(length, size)
            assert.deepEqual(listeners[0].slice(0, 3), listeners[1].slice(0, 3))
          }
        }
      })
      await allBack(pool)
    })
  }

  test('takes the block that a Content-Length asks for, and no other', async () => {
    const pool = new BufferPool()
    const { server } = hashing(plain, pool)
    await serving(server, async (port) => {
      const body = randomBytes(60_000)
      const chunks = pieces(body, 10_000)
      await plain.send({ port, headers: { 'content-length': body.length }, chunks })
    })
    const { allocCount, allocBytes, classes } = await allBack(pool)
    assert.equal(allocCount, 1)
    assert.equal(allocBytes, 60_000)
    assert.deepEqual(
      classes.map(({ blockSize }) => blockSize),
      [64 * KIB]
    )
  })

  test('ends in the block that a Content-Length asks for, by few and smaller ones', async () => {
    const pool = new BufferPool()
    const { server } = hashing(plain, pool)
    await serving(server, async (port) => {
      const body = randomBytes(700_000)
      const chunks = pieces(body, 10_000)
      await plain.send({ port, headers: { 'content-length': body.length }, chunks })
    })
    const { allocCount, classes } = await allBack(pool)
    assert.ok(allocCount <= 4, `${allocCount} leases`)
    assert.equal(classes.at(-1)?.blockSize, 768 * KIB)
  })

  test('grows at amortised cost where there is none, and gives the smaller blocks back', async () => {
    const pool = new BufferPool()
    const { server } = hashing(plain, pool)
    await serving(server, async (port) => {
      await plain.send({ port, chunks: pieces(randomBytes(4 * MIB), 1000) })
    })
    const { allocCount, peakInUseBytes, freshBytes } = await allBack(pool)
    assert.ok(allocCount <= 10, `${allocCount} leases`)
    assert.ok(peakInUseBytes <= 12 * MIB, `${peakInUseBytes} bytes at a time`)
    assert.ok(freshBytes <= 16 * MIB, `${freshBytes} bytes`)
  })

  test(
    'gives a Lease of just the body',
    inEveryMode(async (pool) => {
      const body = randomBytes(5000)
      const lease = await readBody(
        pool,
        Readable.from([body.subarray(0, 2000), body.subarray(2000)])
      )
      assert.ok(lease.buffer.equals(body))
      assert.ok(Buffer.isBuffer(lease.buffer))
      assert.ok(pool.owns(lease.buffer))
      assert.equal(pool.stats().inUseCount, 1)
      lease.release()
      lease.release()
      assert.equal(pool.owns(lease.buffer), false)
      {
        const empty = await readBody(pool, Readable.from([]))
        assert.equal(empty.buffer.length, 0)
        empty[Symbol.dispose]()
      }
      await allBack(pool)
    })
  )

  test('takes nothing for a request without a body', async () => {
    const pool = new BufferPool()
    const { server, outcomes } = hashing(plain, pool)
    await serving(server, async (port) => {
      const { status } = await plain.send({ port, method: 'GET' })
      assert.equal(status, 200)
      assert.equal(outcomes[0].length, 0)
    })
    const { missCount, hitCount } = await allBack(pool)
    assert.equal(missCount + hitCount, 0)
  })

  for (const transport of TRANSPORTS) {
    test(`leaves trailers where they are, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const server = transport.createServer(async (req, res) => {
        const lease = await readBody(pool, req)
        lease.release()
        res.end(req.trailers['x-sum'])
      })
      await serving(server, async (port) => {
        const headers = transport.isHttp2
          ? {}
          : { 'transfer-encoding': 'chunked', trailer: 'x-sum' }
        const chunks = [Buffer.from('abc')]
        const { body } = await transport.send({
          port,
          headers,
          chunks,
          trailers: { 'x-sum': '42' }
        })
        assert.equal(String(body), '42')
      })
      await allBack(pool)
    })
  }

  test('reads what has come already', async () => {
    const pool = new BufferPool()
    const body = randomBytes(20_000)
    const server = http.createServer(async (req, res) => {
      req.pause()
      await sleep(20)
      const lease = await readBody(pool, req)
      res.end(hash(lease.buffer))
      lease.release()
    })
    await serving(server, async (port) => {
      const answer = await plain.send({ port, chunks: pieces(body, 5000) })
      assert.equal(String(answer.body), hash(body))
    })
    await allBack(pool)
  })

  test('reads under --zero-fill-buffers', () => {
    const out = runScript(
      `const { readBody } = require(${JSON.stringify(require.resolve('../../lib/io'))})
       const { Readable } = require('node:stream')
       const pool = new cistern.BufferPool()
       const body = Buffer.alloc(50_000, 'abc')
       const chunks = Array.from({ length: 50 }, (_, i) => body.subarray(i * 1000, i * 1000 + 1000))
       readBody(pool, Readable.from(chunks)).then(({ buffer }) => console.log(buffer.equals(body)))`,
      { flags: ['--zero-fill-buffers'] }
    )
    assert.equal(out, 'true\n')
  })
})

describe("readBody's limit", () => {
  for (const transport of TRANSPORTS) {
    test(`holds by Content-Length and while reading, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const { server, outcomes } = hashing(transport, pool, { limit: 100_000 })
      await serving(server, async (port) => {
        for (const [size, fits] of [
          [99_999, true],
          [100_000, true],
          [100_001, false],
          [1_000_000, false]
        ]) {
          const body = randomBytes(Number(size))
          for (const headers of [{ 'content-length': Number(size) }, {}]) {
            outcomes.length = 0
            const { allocCount } = pool.stats()
            const chunks = pieces(body, 10_000)
            const answer = await transport.send({ port, headers, chunks })
            const { error, listeners } = await onlyOutcome(outcomes)
            if (fits) {
              assert.equal(String(answer.body), hash(body))
              continue
            }
            assert.equal(answer.status, 413)
            assert.equal(String(answer.body), 'ERR_CISTERN_BODY_TOO_LARGE')
            assert.equal(error.statusCode, 413)
            assert.equal(error.name, 'Error')
            assert.deepEqual(listeners[0].slice(0, 4), listeners[1].slice(0, 4))
            if ('content-length' in headers) {
              assert.equal(
                error.message,
                `The body of "req" must have at most options.limit = 100000 bytes. Its Content-Length is ${size}`
              )
              assert.equal(pool.stats().allocCount, allocCount, 'no block is taken for it')
            } else {
              assert.match(error.message, / = 100000 bytes\. Received at least 1\d{5}$/)
            }
          }
        }
      })
      await allBack(pool)
    })
  }

  test('is 16 MiB where none is given, and may be none', async () => {
    const pool = new BufferPool()
    const of = (length) =>
      Object.assign(Readable.from(pieces(Buffer.alloc(length), MIB)), {
        headers: { 'content-length': String(length) }
      })
    const lease = await readBody(pool, of(16 * MIB))
    lease.release()
    await assert.rejects(readBody(pool, of(16 * MIB + 1)), { statusCode: 413 })
    const large = await readBody(pool, of(40 * MIB), { limit: Infinity })
    assert.equal(large.buffer.length, 40 * MIB)
    large.release()
    const endless = Object.assign(new PassThrough(), {
      headers: { 'content-length': '9'.repeat(30) }
    })
    await assert.rejects(readBody(pool, endless, { limit: Infinity }), { statusCode: 413 })
    const nothing = await readBody(pool, Readable.from([]), { limit: 0 })
    nothing.release()
    await assert.rejects(readBody(pool, Readable.from(['a']), { limit: 0 }), { statusCode: 413 })
    await allBack(pool)
  })

  test('leaves an HTTP/1 connection in order: what is too much is read away', async () => {
    const pool = new BufferPool()
    const { server, outcomes } = hashing(plain, pool, { limit: 1000 })
    await serving(server, async (port) => {
      for (const first of [
        head('Content-Length: 3000000'),
        `${head('Transfer-Encoding: chunked')}${(3_000_000).toString(16)}\r\n`
      ]) {
        outcomes.length = 0
        const tail = first.includes('chunked') ? '\r\n0\r\n\r\n' : ''
        const { socket, answer } = await say(port, first, Buffer.alloc(3_000_000), tail)
        socket.end(`${head('Content-Length: 3', 'Connection: close')}abc`)
        const text = await answer
        assert.match(text, /^HTTP\/1\.1 413 .*ERR_CISTERN_BODY_TOO_LARGE.*HTTP\/1\.1 200 OK/s)
        assert.ok(text.endsWith(hash(Buffer.from('abc'))))
        assert.equal(outcomes.length, 2)
      }
    })
    await allBack(pool)
  })

  test('ends an upload without end, when the answer closes the connection', async () => {
    const pool = new BufferPool()
    const server = http.createServer(async (req, res) => {
      await assert.rejects(readBody(pool, req, { limit: MIB }), { statusCode: 413 })
      res.writeHead(413, { connection: 'close' }).end()
    })
    await serving(server, async (port) => {
      const { socket } = await say(port, head('Transfer-Encoding: chunked'))
      socket.on('error', () => {})
      const chunk = Buffer.from(`10000\r\n${'x'.repeat(65_536)}\r\n`)
      let sent = 0
      const send = () => {
        if (socket.destroyed) return
        sent += chunk.length
        socket.write(chunk, () => setImmediate(send))
      }
      send()
      await until(() => socket.closed, 'the connection is closed')
      assert.ok(sent > MIB)
    })
    await allBack(pool)
  })

  for (const transport of TRANSPORTS.filter(({ isHttp2 }) => isHttp2)) {
    test(`ends an upload without end when the answer is out, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const answer = randomBytes(300_000)
      const closed = []
      const server = transport.createServer(async (req, res) => {
        req.stream.on('close', () => closed.push(req.url))
        await assert.rejects(readBody(pool, req, { limit: 10_000 }), { statusCode: 413 })
        res.statusCode = 413
        res.end(answer)
      })
      await serving(server, async (port) => {
        const session = http2.connect(`${transport.scheme}://${HOST}:${port}`, { ca: cert })
        for (const [path, headers] of [
          ['/endless', {}],
          ['/announced', { 'content-length': 1_000_000 }]
        ]) {
          const req = session.request({ ':method': 'POST', ':path': path, ...headers })
          req.on('error', () => {})
          const upload = setInterval(() => {
            if (req.writable) req.write(Buffer.alloc(1000))
          }, 1)
          const [{ ':status': status }] = await once(req, 'response')
          assert.equal(status, 413)
          assert.equal(hash(await bodyOf(req)), hash(answer))
          await until(() => closed.includes(path), 'the server has closed the stream')
          clearInterval(upload)
        }
        session.destroy()
      })
      await allBack(pool)
    })
  }
})

describe('Expect: 100-continue', () => {
  const expecting = head('Expect: 100-continue', 'Content-Length: 5', 'Connection: close')

  test("is Node's to answer", async () => {
    const pool = new BufferPool()
    const { server } = hashing(plain, pool)
    await serving(server, async (port) => {
      const { answer } = await say(
        port,
        expecting,
        async (socket) => once(socket, 'readable').then(() => sleep(10)),
        'abcde'
      )
      const text = await answer
      assert.match(text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/)
      assert.ok(text.endsWith(hash(Buffer.from('abcde'))))
    })
    await allBack(pool)
  })

  for (const when of ['before', 'after']) {
    test(`is the user's to answer, ${when} the call`, async () => {
      const pool = new BufferPool()
      const server = http.createServer(() => assert.fail('not this way'))
      server.on('checkContinue', async (req, res) => {
        if (when === 'before') res.writeContinue()
        const body = readBody(pool, req)
        if (when === 'after') setTimeout(() => res.writeContinue(), 20)
        const lease = await body
        end(pool, res, lease.buffer)
      })
      await serving(server, async (port) => {
        const { answer } = await say(
          port,
          expecting,
          async (socket) => once(socket, 'readable').then(() => sleep(10)),
          'abcde'
        )
        const text = await answer
        assert.match(text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/)
        assert.ok(text.endsWith('abcde'))
      })
      await allBack(pool)
    })
  }

  test('is not answered for a body that is too large, which is then never sent', async () => {
    const pool = new BufferPool()
    const server = http.createServer(() => assert.fail('not this way'))
    let received = 0
    server.on('checkContinue', async (req, res) => {
      await assert.rejects(readBody(pool, req, { limit: 4 }), { statusCode: 413 })
      received = req.socket.bytesRead
      res.writeHead(413, { connection: 'close' }).end()
    })
    await serving(server, async (port) => {
      const { answer } = await say(port, expecting)
      assert.match(await answer, /^HTTP\/1\.1 413 /)
      assert.equal(received, expecting.length)
    })
    await allBack(pool)
  })
})

describe("readBody's signal", () => {
  test('ends it before, while waiting for memory, and while reading', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const reason = new Error('changed my mind')
    const isAbort = { name: 'AbortError', code: 'ABORT_ERR', cause: reason }

    const early = Readable.from(['abc'])
    await assert.rejects(readBody(pool, early, { signal: AbortSignal.abort(reason) }), isAbort)
    assert.ok(early.destroyed)

    const others = pool.allocUnsafe(MIB)
    const waiting = new AbortController()
    const source = new PassThrough()
    const waits = readBody(pool, source, { signal: waiting.signal })
    await turn()
    waiting.abort(reason)
    await assert.rejects(waits, isAbort)
    assert.ok(source.destroyed)
    pool.release(others)

    const reading = new AbortController()
    const slow = new PassThrough()
    slow.write('abc')
    const reads = readBody(pool, slow, { signal: reading.signal })
    await turn()
    assert.equal(pool.stats().inUseCount, 1)
    reading.abort(reason)
    await assert.rejects(reads, isAbort)
    assert.equal(pool.stats().inUseCount, 0)
    assert.ok(slow.destroyed)
    await allBack(pool)
  })

  test('leaves a request open for the answer', async () => {
    const pool = new BufferPool()
    const server = http.createServer(async (req, res) => {
      const signal = AbortSignal.timeout(20)
      await assert.rejects(readBody(pool, req, { signal }), { name: 'AbortError' })
      res.writeHead(408, { connection: 'close' }).end()
    })
    await serving(server, async (port) => {
      const { answer } = await say(port, head('Content-Length: 100'), 'abc')
      assert.match(await answer, /^HTTP\/1\.1 408 /)
    })
    await allBack(pool)
  })

  test('is not listened to any longer than it takes', async () => {
    const { getEventListeners } = require('node:events')
    const pool = new BufferPool()
    const { signal } = new AbortController()
    for (const [chunks, limit] of [
      [['abc'], 10],
      [['abc'], 1],
      [[], 10]
    ]) {
      const req = Readable.from(/** @type {string[]} */ (chunks))
      const body = readBody(pool, req, { signal, limit: Number(limit) })
      await body.then(
        (lease) => lease.release(),
        () => {}
      )
      assert.deepEqual(getEventListeners(signal, 'abort'), [])
    }
    await allBack(pool)
  })
})
