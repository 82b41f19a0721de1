'use strict'

/** `readBody`: over real servers, and with clients that do everything wrong. */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const http2 = require('node:http2')
const net = require('node:net')
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
  frames,
  hash,
  pieces,
  randomBytes,
  serving
} = require('../support/io-servers')

const KIB = 1024
const MIB = 1024 * KIB
const EVENTS = ['data', 'end', 'error', 'close', 'aborted', 'readable', 'pause', 'resume']

/**
 * How many listeners a request has of each kind.
 *
 * @param {import('node:events').EventEmitter} req
 */
const listenersOf = (req) => EVENTS.map((event) => req.listenerCount(event))

/**
 * What became of a body.
 *
 * @typedef {{ hash?: string, length?: number, error?: any, req: any }} Outcome
 */

/**
 * A server that reads each body, notes what became of it, and answers with its hash.
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

describe('readBody, of other streams', () => {
  test('reads files, pipes, sockets and strings', async () => {
    const pool = new BufferPool()
    const text = fs.readFileSync(__filename)
    const through = new PassThrough()
    fs.createReadStream(__filename, { highWaterMark: 100 }).pipe(through)
    const server = net.createServer((socket) => socket.end(text)).listen(0, HOST)
    await once(server, 'listening')
    const sources = [
      fs.createReadStream(__filename),
      through,
      net.connect(/** @type {any} */ (server.address()).port, HOST),
      Readable.from(pieces(text, 333)),
      Readable.from(Array.from(text.toString('latin1').match(/.{1,99}/gs) ?? [])),
      Readable.from([new Uint8Array(text)])
    ]
    for (const source of sources) {
      const lease = await readBody(pool, source)
      assert.ok(lease.buffer.equals(text))
      lease.release()
    }
    server.close()
    await allBack(pool)
  })

  test("reads a client's response, also one that has no body", async () => {
    const pool = new BufferPool()
    const body = randomBytes(100_000)
    const server = http.createServer((req, res) => {
      if (req.url === '/304') res.statusCode = 304
      res.setHeader('content-length', body.length)
      res.end(req.url === '/304' ? undefined : body)
    })
    await serving(server, async (port) => {
      for (const [method, path, length] of [
        ['GET', '/', body.length],
        ['HEAD', '/', 0],
        ['GET', '/304', 0]
      ]) {
        const req = http.request({ host: HOST, port, method, path, agent: false }).end()
        const [res] = await once(req, 'response')
        // Less than the Content-Length of what does not come.
        const lease = await readBody(pool, res, { limit: Number(length) })
        assert.equal(lease.buffer.length, length)
        if (length === body.length) assert.ok(lease.buffer.equals(body))
        lease.release()
      }
    })
    await allBack(pool)
  })

  test('refuses chunks that are no bytes', async () => {
    const pool = new BufferPool()
    for (const chunk of [{}, 5, [1], true]) {
      const source = Readable.from([Buffer.from('abc'), chunk])
      await assert.rejects(readBody(pool, source), {
        code: 'ERR_INVALID_ARG_TYPE',
        message: /^The "chunk" argument must be of type string, or an instance of Buffer/
      })
      assert.ok(source.destroyed)
    }
    await allBack(pool)
  })

  test('refuses text that was decoded: its bytes are lost', async () => {
    const pool = new BufferPool()
    const early = Readable.from([Buffer.from([0xff, 0xfe])], { objectMode: false })
    early.setEncoding('utf8')
    await assert.rejects(readBody(pool, early), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /^The argument 'req' must give bytes, and decodes them.*'utf8'$/
    })
    const late = new PassThrough()
    const body = readBody(pool, late)
    await turn()
    late.setEncoding('latin1')
    late.end('abc')
    await assert.rejects(body, { code: 'ERR_INVALID_ARG_VALUE' })
    await allBack(pool)
  })

  test('fails as the stream fails', async () => {
    const pool = new BufferPool()
    const failing = new PassThrough()
    failing.write('abc')
    const failed = readBody(pool, failing)
    await turn()
    const cause = new Error('no more')
    failing.destroy(cause)
    await assert.rejects(failed, cause)
    assert.deepEqual(listenersOf(failing).slice(0, 4), listenersOf(new PassThrough()).slice(0, 4))

    const closing = new PassThrough()
    closing.write('abc')
    const closed = readBody(pool, closing)
    await turn()
    closing.destroy()
    await assert.rejects(closed, { code: 'ERR_STREAM_PREMATURE_CLOSE' })

    await assert.rejects(readBody(pool, failing), cause)
    await assert.rejects(readBody(pool, closing), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
    const missing = fs.createReadStream('/nowhere')
    await assert.rejects(readBody(pool, missing), { code: 'ENOENT' })
    await allBack(pool)
  })

  test('destroys a stream that it does not read to the end, and hears its last words', async () => {
    const pool = new BufferPool()
    let isDestroyed = false
    const source = new Readable({
      read() {
        this.push(Buffer.alloc(1000))
      },
      destroy(_error, callback) {
        isDestroyed = true
        setImmediate(callback, new Error('destroying fails'))
      }
    })
    await assert.rejects(readBody(pool, source, { limit: 5000 }), {
      code: 'ERR_CISTERN_BODY_TOO_LARGE'
    })
    assert.ok(isDestroyed)
    await until(() => source.closed, 'it is closed')
    await turn()
    assert.deepEqual(listenersOf(source).slice(0, 4), [0, 0, 0, 0])
    await allBack(pool)
  })

  test('checks the length where nobody else has', async () => {
    const pool = new BufferPool()
    for (const [announced, body] of [
      ['5', 'abcd'],
      ['3', 'abcd'],
      ['1', '']
    ]) {
      const req = Object.assign(Readable.from([Buffer.from(body)]), {
        headers: { 'content-length': announced }
      })
      await assert.rejects(readBody(pool, req), {
        code: 'ERR_HTTP_CONTENT_LENGTH_MISMATCH',
        message: `The body of "req" must have the ${announced} bytes of its Content-Length. Received ${body.length}`
      })
    }
    await allBack(pool)
  })

  test('refuses a body that someone else has read of', async () => {
    const pool = new BufferPool()
    const read = Readable.from([Buffer.from('abc')])
    await read.toArray()
    const begun = new PassThrough()
    begun.write('abc')
    begun.read(1)
    for (const req of [read, begun]) {
      await assert.rejects(readBody(pool, req), {
        name: 'Error',
        code: 'ERR_CISTERN_BODY_USED',
        message: /^The body of "req" must be unread.* Received /
      })
    }
    assert.equal(begun.destroyed, false)
    const nothing = Readable.from([]).resume()
    await once(nothing, 'end')
    assert.equal((await readBody(pool, nothing)).buffer.length, 0)
  })

  test('refuses a body that someone else reads while it waits for memory', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const others = pool.allocUnsafe(MIB)
    for (const isToEnd of [true, false]) {
      const req = new PassThrough()
      const body = readBody(pool, req)
      req.write('abc')
      req.on('data', () => {})
      if (isToEnd) {
        req.end()
        await assert.rejects(body, { code: 'ERR_CISTERN_BODY_USED' })
      } else {
        await turn()
        pool.release(others)
        await assert.rejects(body, { code: 'ERR_CISTERN_BODY_USED' })
        assert.equal(req.destroyed, false)
      }
    }
    await allBack(pool)
  })

  test('names the argument that is wrong', async () => {
    const pool = new BufferPool()
    const req = () => Readable.from([])
    for (const [args, code, message] of [
      [
        [{}, req()],
        'ERR_INVALID_ARG_TYPE',
        'The "pool" argument must be an instance of BufferPool'
      ],
      [[pool, {}], 'ERR_INVALID_ARG_TYPE', 'The "req" argument must be a stream.Readable'],
      [[pool, undefined], 'ERR_INVALID_ARG_TYPE', 'The "req" argument must be a stream.Readable'],
      [[pool, req(), null], 'ERR_INVALID_ARG_TYPE', 'The "options" argument must be an object'],
      [[pool, req(), []], 'ERR_INVALID_ARG_TYPE', 'The "options" argument must be an object'],
      [
        [pool, req(), { limit: '5' }],
        'ERR_INVALID_ARG_TYPE',
        'The "options.limit" property must be'
      ],
      [[pool, req(), { limit: -1 }], 'ERR_OUT_OF_RANGE', 'The value of "options.limit" is out of'],
      [[pool, req(), { limit: 1.5 }], 'ERR_OUT_OF_RANGE', 'The value of "options.limit" is out of'],
      [[pool, req(), { limit: NaN }], 'ERR_OUT_OF_RANGE', 'The value of "options.limit" is out of'],
      [
        [pool, req(), { signal: {} }],
        'ERR_INVALID_ARG_TYPE',
        'The "options.signal" property must be'
      ]
    ]) {
      await assert.rejects(readBody(.../** @type {any} */ (args)), (error) => {
        assert.equal(error.code, code)
        assert.ok(error.message.startsWith(message), error.message)
        return true
      })
    }
    const lease = await readBody(pool, req(), { limit: undefined, signal: undefined })
    lease.release()
  })

  test('is refused by a closed pool', async () => {
    const pool = new BufferPool()
    pool.close()
    for (const chunks of [[], ['abc']]) {
      await assert.rejects(readBody(pool, Readable.from(chunks)), { code: 'ERR_CISTERN_CLOSED' })
    }
    for (const length of [3, 100_000]) {
      const endless = new PassThrough()
      await assert.rejects(readBody(pool, endless, { length }), { code: 'ERR_CISTERN_CLOSED' })
    }
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

describe('readBody, from clients that misbehave', () => {
  /** What a client does to its connection in the middle of its body, and what comes of it. */
  const ABORTS = {
    'resets it': (socket) => socket.resetAndDestroy(),
    'ends it': (socket) => socket.end(),
    'goes away': (socket) => socket.destroy()
  }
  for (const [what, abort] of Object.entries(ABORTS)) {
    for (const framing of ['Content-Length: 500000', 'Transfer-Encoding: chunked']) {
      test(`fails where the client ${what}: ${framing}`, async () => {
        const pool = new BufferPool()
        const { server, outcomes, requests } = hashing(plain, pool)
        await serving(server, async (port) => {
          for (const sent of [0, 1, 100_000]) {
            outcomes.length = 0
            requests.length = 0
            const chunk = framing.startsWith('T') ? `${(400_000).toString(16)}\r\n` : ''
            const { socket } = await say(port, head(framing), chunk, 'x'.repeat(sent))
            socket.on('error', () => {})
            await until(() => requests.length > 0, 'the request has come')
            await sleep(2)
            abort(socket)
            const { error, listeners } = await onlyOutcome(outcomes)
            assert.equal(error.code, 'ECONNRESET')
            assert.deepEqual(listeners[0].slice(0, 4), listeners[1].slice(0, 4))
            assert.equal(pool.stats().inUseCount, 0)
            socket.destroy()
          }
        })
        await allBack(pool)
      })
    }
  }

  test('fails for a body that has come to grief before', async () => {
    const pool = new BufferPool()
    let outcome
    let hasBegun = false
    const server = http.createServer(async (req) => {
      hasBegun = true
      await new Promise((resolve) => req.once('close', resolve))
      outcome = await readBody(pool, req).catch((error) => error)
    })
    await serving(server, async (port) => {
      const { socket } = await say(port, head('Content-Length: 100'), 'abc')
      await until(() => hasBegun, 'the request has come')
      socket.destroy()
      await until(() => outcome, 'there is an outcome')
      assert.ok(['ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE'].includes(outcome.code), outcome.code)
    })
    await allBack(pool)
  })

  test('takes as much as was announced, whatever follows', async () => {
    const pool = new BufferPool()
    const { server, outcomes } = hashing(plain, pool)
    await serving(server, async (port) => {
      const { answer } = await say(port, head('Content-Length: 5'), 'abcdefghij')
      await answer
      const { hash: got } = await onlyOutcome(outcomes)
      assert.equal(got, hash(Buffer.from('abcde')))
    })
    await allBack(pool)
  })

  test('fails where chunked encoding turns to garbage', async () => {
    const pool = new BufferPool()
    const { server, outcomes } = hashing(plain, pool)
    await serving(server, async (port) => {
      for (const garbage of [
        'zz\r\n',
        '5\r\nabcdefghij',
        '-1\r\n',
        'ffffffffffffffffff\r\n',
        '5'
      ]) {
        outcomes.length = 0
        const { socket, answer } = await say(
          port,
          head('Transfer-Encoding: chunked'),
          '3\r\nabc\r\n',
          garbage
        )
        socket.end()
        await answer
        const { error } = await onlyOutcome(outcomes)
        assert.equal(error.code, 'ECONNRESET', garbage)
      }
    })
    await allBack(pool)
  })

  test('has grace period with a client that sends a byte now and then', async () => {
    const pool = new BufferPool()
    const { server, outcomes } = hashing(plain, pool)
    const body = randomBytes(60)
    await serving(server, async (port) => {
      const { socket } = await say(port, head('Content-Length: 60'))
      for (const byte of body) {
        await sleep(2)
        socket.write(Buffer.of(byte))
      }
      const { hash: got } = await onlyOutcome(outcomes)
      assert.equal(got, hash(body))
      socket.destroy()
    })
    await allBack(pool)
  })

  for (const transport of TRANSPORTS.filter(({ isHttp2 }) => isHttp2)) {
    test(`fails where a stream is reset, or its session goes, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      /** @type {Outcome[]} */
      const outcomes = []
      let hasBegun = false
      const server = transport.createServer(async (req, res) => {
        hasBegun = true
        // Then no 'aborted' comes, and the request ends like one that is whole.
        if (req.url === '/answered') res.end('early')
        await readBody(pool, req).then(
          (lease) => {
            outcomes.push({ length: lease.buffer.length, req })
            lease.release()
          },
          (error) => outcomes.push({ error, req })
        )
      })
      await serving(server, async (port) => {
        for (const path of ['/', '/answered']) {
          for (const sent of [0, 1, 16_000]) {
            for (const abort of [
              (socket) => socket.write(frames.reset(1, 8)),
              (socket) => socket.write(frames.reset(1, 2)),
              (socket) => socket.write(frames.reset(1, 0)),
              (socket) => socket.end(),
              (socket) => socket.destroy()
            ]) {
              outcomes.length = 0
              hasBegun = false
              const socket = transport.connect(port)
              socket.on('error', () => {})
              socket.write(frames.opening())
              socket.write(frames.headers(1, { path }))
              socket.write(frames.data(1, Buffer.alloc(sent)))
              await until(() => hasBegun, 'the request has come')
              await sleep(2)
              abort(socket)
              const { error } = await onlyOutcome(outcomes)
              assert.equal(error?.code, 'ERR_STREAM_PREMATURE_CLOSE', `${path} ${sent} ${abort}`)
              socket.destroy()
            }
          }
        }
      })
      await allBack(pool)
    })
  }
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

describe("readBody at the pool's ceiling", () => {
  test('waits in line for memory, and the clients with it', async () => {
    const pool = new BufferPool({ maxBytes: 2 * MIB, onExhausted: 'throw' })
    const { server, outcomes } = hashing(plain, pool)
    const bodies = Array.from({ length: 30 }, () => randomBytes(MIB))
    await serving(server, async (port) => {
      const others = pool.allocUnsafe(2 * MIB)
      const headers = { 'content-length': MIB }
      const answers = bodies.map((body) =>
        plain.send({ port, headers, chunks: pieces(body, 100_000) })
      )
      await until(() => pool.stats().waitCount === 30, 'all wait')
      assert.equal(outcomes.length, 0)
      pool.release(others)
      for (const [i, { body }] of (await Promise.all(answers)).entries()) {
        assert.equal(String(body), hash(bodies[i]))
      }
    })
    const { peakInUseBytes, unpooledCount } = await allBack(pool)
    assert.ok(peakInUseBytes <= 2 * MIB)
    assert.equal(unpooledCount, 0)
  })

  test('leaves the line when the client does', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const { server, outcomes } = hashing(plain, pool)
    await serving(server, async (port) => {
      const others = pool.allocUnsafe(MIB)
      const clients = await Promise.all(
        Array.from({ length: 10 }, () => say(port, head('Content-Length: 1000000'), 'abc'))
      )
      await until(() => pool.stats().waitCount === 10, 'all wait')
      for (const { socket } of clients) socket.destroy()
      await until(() => outcomes.length === 10, 'all are told')
      for (const { error } of outcomes) assert.equal(error.code, 'ECONNRESET')
      // It has left the line: nobody is before this one.
      pool.release(others)
      pool.release(await pool.acquire(MIB))
    })
    await allBack(pool)
  })

  test('never deadlocks: who has a block waits for no other', async () => {
    for (const onExhausted of ['throw', 'unpooled']) {
      const pool = new BufferPool({ maxBytes: 4 * MIB, onExhausted })
      const { server, outcomes } = hashing(plain, pool)
      await serving(server, async (port) => {
        const bodies = Array.from({ length: 6 }, () => randomBytes(3 * MIB))
        const answers = await Promise.all(
          bodies.map(async (body) => {
            async function* slowly() {
              for (const piece of pieces(body, 300_000)) {
                yield piece
                await sleep(2)
              }
            }
            return plain.send({ port, chunks: slowly() })
          })
        )
        assert.equal(outcomes.length, 6)
        for (const [i, { status, body }] of answers.entries()) {
          if (onExhausted === 'unpooled' || status === 200)
            assert.equal(String(body), hash(bodies[i]))
          else assert.equal(String(body), 'ERR_CISTERN_EXHAUSTED')
        }
        if (onExhausted === 'throw') assert.ok(answers.some(({ status }) => status === 500))
      })
      await allBack(pool)
    }
  })

  test('fails where the pool can never hold the body', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const { server } = hashing(plain, pool)
    await serving(server, async (port) => {
      const body = Buffer.alloc(2 * MIB)
      const headers = { 'content-length': body.length }
      const answer = await plain.send({ port, headers, chunks: [body] })
      assert.equal(String(answer.body), 'ERR_CISTERN_EXHAUSTED')
    })
    await allBack(pool)
  })
})

/** What clients do in a storm, to a server that echoes. */
const CLIENTS_HTTP1 = {
  good: async ({ transport, port, body }) => {
    const headers = { 'content-length': body.length, 'x-hash': hash(body) }
    const answer = await transport.send({ port, headers, chunks: pieces(body, 30_000) })
    assert.equal(hash(answer.body), hash(body))
  },
  'good, chunked': async ({ transport, port, body }) => {
    const headers = { 'x-hash': hash(body) }
    const answer = await transport.send({ port, headers, chunks: pieces(body, 30_000) })
    assert.equal(hash(answer.body), hash(body))
  },
  slow: async ({ open, body }) => {
    const part = body.subarray(0, 40)
    const socket = await open(head('Content-Length: 40', `X-Hash: ${hash(part)}`))
    for (const byte of part) {
      socket.write(Buffer.of(byte))
      await sleep(2)
    }
    await until(() => String(socket.read() ?? '').includes('200 OK') || socket.closed, 'an answer')
    socket.destroy()
  },
  'sends half, and resets': async ({ open, body }) => {
    const socket = await open(head(`Content-Length: ${2 * body.length}`, 'X-Hash: none'))
    socket.write(body)
    await sleep(Math.random() * 5)
    if (socket.resetAndDestroy && !socket.encrypted) socket.resetAndDestroy()
    else socket.destroy()
  },
  'sends half, and ends': async ({ open, body }) => {
    const socket = await open(head(`Content-Length: ${2 * body.length}`, 'X-Hash: none'))
    socket.end(body)
  },
  'sends headers alone': async ({ open }) => {
    const socket = await open(head('Content-Length: 1000', 'X-Hash: none'))
    await sleep(Math.random() * 5)
    socket.destroy()
  },
  'sends more than it said': async ({ open, body }) => {
    const { length } = body
    const socket = await open(head(`Content-Length: ${length}`, `X-Hash: ${hash(body)}`))
    socket.end(Buffer.concat([body, body]))
  },
  'sends garbage for chunks': async ({ open, body }) => {
    const socket = await open(head('Transfer-Encoding: chunked', 'X-Hash: none'))
    socket.write(`${body.length.toString(16)}\r\n`)
    socket.write(body)
    socket.end('\r\nthe end of it\r\n')
  },
  'does not take its answer': async ({ open, body }) => {
    const { length } = body
    const socket = await open(head(`Content-Length: ${length}`, `X-Hash: ${hash(body)}`))
    socket.write(body)
    await sleep(Math.random() * 5)
    socket.destroy()
  },
  'sends too much': async ({ transport, port }) => {
    const chunks = pieces(Buffer.alloc(2 * MIB), 100_000)
    const { status } = await transport.send({ port, headers: { 'x-hash': 'none' }, chunks })
    assert.equal(status, 413)
  },
  'asks twice at a time, and goes': async ({ open, body }) => {
    const request = head(`Content-Length: ${body.length}`, `X-Hash: ${hash(body)}`)
    const socket = await open(request)
    for (let i = 0; i < 3; i++) {
      socket.write(body)
      socket.write(request)
    }
    await sleep(Math.random() * 10)
    socket.destroy()
  }
}

const CLIENTS_HTTP2 = {
  good: CLIENTS_HTTP1.good,
  'good, without a length': CLIENTS_HTTP1['good, chunked'],
  'sends too much': CLIENTS_HTTP1['sends too much'],
  'sends half, and resets': async ({ open, body }) => {
    const socket = await open(frames.opening(), frames.headers(1, { path: '/none' }))
    for (const piece of pieces(body.subarray(0, 60_000), 10_000))
      socket.write(frames.data(1, piece))
    await sleep(Math.random() * 5)
    socket.write(frames.reset(1, 8))
    await sleep(5)
    socket.destroy()
  },
  'sends half, and goes': async ({ open, body }) => {
    const socket = await open(frames.opening(), frames.headers(1, { path: '/none' }))
    for (const piece of pieces(body.subarray(0, 60_000), 10_000))
      socket.write(frames.data(1, piece))
    await sleep(Math.random() * 5)
    socket.destroy()
  },
  'resets each of its streams': async ({ open, body }) => {
    const socket = await open(frames.opening())
    for (let stream = 1; stream < 20; stream += 2) {
      socket.write(frames.headers(stream, { path: '/none' }))
      socket.write(frames.data(stream, body.subarray(0, 3000)))
      if (stream % 3 === 0) await sleep(1)
      socket.write(frames.reset(stream, 8))
    }
    await sleep(5)
    socket.end()
  },
  'sends garbage': async ({ open, body }) => {
    // Node 20 forgets such a connection, and tells of its end nobody.
    if (process.version.startsWith('v20.')) return
    const socket = await open(frames.opening(), frames.headers(1, { path: '/none' }))
    socket.write(frames.data(1, body.subarray(0, 3000)))
    socket.end(body)
  }
}

describe('A storm of clients', () => {
  for (const transport of TRANSPORTS) {
    test(`leaves nothing leased, and no body wrong, over ${transport.name}`, async () => {
      const pool = new BufferPool({ maxBytes: 16 * MIB })
      const counts = { right: 0, wrong: 0, failed: 0 }
      const server = transport.createServer(async (req, res) => {
        try {
          const { buffer } = await readBody(pool, req, { limit: MIB })
          const isRight = hash(buffer) === req.headers['x-hash']
          counts[isRight ? 'right' : 'wrong']++
          end(pool, res, buffer)
        } catch (error) {
          counts.failed++
          res.statusCode = error.statusCode ?? 400
          res.end()
        }
      })
      const clients = Object.entries(transport.isHttp2 ? CLIENTS_HTTP2 : CLIENTS_HTTP1)
      await serving(server, async (port) => {
        const open = async (...bytes) => {
          const socket = transport.connect(port)
          socket.on('error', () => {})
          await once(socket, transport.name.endsWith('s') ? 'secureConnect' : 'connect')
          for (const piece of bytes) socket.write(piece)
          return socket
        }
        for (let round = 0; round < 6; round++) {
          await Promise.all(
            clients.flatMap(([, client]) =>
              [100, 20_000, 300_000].map((size) =>
                client({ transport, port, open, body: randomBytes(size) })
              )
            )
          )
        }
        await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
        await CLIENTS_HTTP1.good({ transport, port, body: randomBytes(1000) })
      })
      assert.equal(counts.wrong, 0)
      assert.ok(counts.right >= 6 * 6, `${counts.right} were right`)
      assert.ok(counts.failed >= 6 * 3, `${counts.failed} failed`)
      await allBack(pool)
    })
  }
})

describe('Frameworks', () => {
  const express = () => {
    const app = require('express')()
    return {
      handle: (path, handler) =>
        app.post(path, (req, res, next) => handler(req, res, res).catch(next)),
      listen: async () => {
        app.use((error, _req, res, _next) => {
          res.status(error.statusCode ?? 500).send(error.code)
        })
        return http.createServer(app)
      }
    }
  }
  const fastify = () => {
    const app = require('fastify')()
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_req, _payload, done) => done(null))
    return {
      handle: (path, handler) =>
        app.post(path, async (request, reply) => {
          await handler(request.raw, reply.raw, reply)
        }),
      listen: async () => {
        app.setErrorHandler((error, _req, reply) => {
          reply.status(error.statusCode ?? 500).send(error.code)
        })
        await app.ready()
        return app.server
      }
    }
  }
  for (const [name, framework] of Object.entries({ express, fastify })) {
    test(`${name}: bodies are read, and sent back`, async () => {
      const pool = new BufferPool()
      const app = framework()
      app.handle('/echo', async (req, res, reply) => {
        const { buffer } = await readBody(pool, req, { limit: MIB })
        reply.hijack?.()
        end(pool, res, buffer)
      })
      const server = await app.listen()
      await serving(server, async (port) => {
        for (const size of [0, 1, 50_000, MIB]) {
          const body = randomBytes(size)
          for (const headers of [{ 'content-length': size }, {}]) {
            const chunks = pieces(body, 40_000)
            const type = { 'content-type': 'application/octet-stream' }
            const answer = await plain.send({
              port,
              path: '/echo',
              headers: { ...type, ...headers },
              chunks
            })
            assert.equal(answer.status, 200, String(answer.body))
            assert.equal(hash(answer.body), hash(body))
          }
        }
        const chunks = pieces(Buffer.alloc(MIB + 1), 100_000)
        const answer = await plain.send({ port, path: '/echo', chunks })
        assert.equal(answer.status, 413)
        assert.match(String(answer.body), /ERR_CISTERN_BODY_TOO_LARGE/)

        const clients = Array.from({ length: 20 }, async (_, i) => {
          const { socket } = await say(
            port,
            head('Content-Length: 100000').replace('/', '/echo'),
            'x'.repeat(1000 * i)
          )
          socket.on('error', () => {})
          await sleep(i)
          socket.destroy()
        })
        await Promise.all(clients)
      })
      await allBack(pool)
    })
  }
})
