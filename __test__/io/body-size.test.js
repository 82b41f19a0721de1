'use strict'

/**
 * The memory that `readBody` holds: it follows the bytes that have arrived, not the length that was
 * announced.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const http = require('node:http')
const net = require('node:net')
const { PassThrough, Readable } = require('node:stream')
const { describe, test } = require('node:test')
const { setImmediate: turn } = require('node:timers/promises')
const undici = require('undici')
const { BufferPool } = require('../..')
const { chunks, readBody } = require('../../lib/io')
const { inEveryMode, until } = require('../support/helpers')
const {
  HOST,
  TRANSPORTS,
  allBack,
  hash,
  pieces,
  randomBytes,
  serving
} = require('../support/io-servers')

const KIB = 1024
const MIB = 1024 * KIB

/** Returns the most memory that a body of this length may hold. */
const mayHold = (arrived) => Math.max(64 * KIB, 4 * arrived)

/**
 * Returns a stream that announces a length.
 *
 * @param {number} [length]
 */
function announcing(length) {
  const headers = length === undefined ? {} : { 'content-length': String(length) }
  return Object.assign(new Readable({ read() {} }), { headers })
}

describe('A body holds at most four times what has arrived, or 64 KiB,', () => {
  for (const by of ['Content-Length', 'options.length', 'nothing']) {
    for (const [size, steps] of [
      [70_000, [1, 999, 1000]],
      [300_000, [1, 7, 5000]],
      [16 * MIB, [3, 64 * KIB, 1]],
      [5 * MIB + 1, [5 * MIB + 1]],
      [3 * MIB, [3 * MIB - 1, 1]],
      [1 * MIB, [64 * KIB - 100, 64 * KIB]]
    ]) {
      const gist = `${size} bytes announced by ${by}, in steps of ${steps}`
      test(
        gist,
        inEveryMode(async (pool) => {
          const req = announcing(by === 'Content-Length' ? size : undefined)
          const length = by === 'options.length' ? size : undefined
          const reading = readBody(pool, req, { length })
          await turn()
          const body = randomBytes(size)
          for (let arrived = 0, i = 0; arrived < size; i++) {
            const step = steps[i % steps.length]
            req.push(body.subarray(arrived, arrived + step))
            await turn()
            arrived = Math.min(size, arrived + step)
            const { inUseBytes, peakInUseBytes } = pool.stats()
            const held = Math.max(inUseBytes, peakInUseBytes)
            assert.ok(held <= mayHold(arrived), `${held} bytes for ${arrived}`)
          }
          req.push(null)
          const lease = await reading
          assert.ok(lease.buffer.equals(body))
          lease.release()
          await allBack(pool)
        })
      )
    }
  }

  test('and one that announces up to 64 KiB has one block', async () => {
    for (const size of [1, 1000, 16 * KIB + 1, 64 * KIB]) {
      const pool = new BufferPool()
      const req = announcing(size)
      const reading = readBody(pool, req)
      for (const piece of pieces(Buffer.alloc(size, 1), 1000)) {
        req.push(piece)
        await turn()
      }
      req.push(null)
      const lease = await reading
      lease.release()
      const { allocCount, allocBytes } = await allBack(pool)
      assert.deepEqual([allocCount, allocBytes], [1, size])
    }
  })

  test('and one that comes in large pieces is copied less than twice', async () => {
    for (const size of [100_000, 256 * KIB, MIB, 16 * MIB]) {
      const pool = new BufferPool()
      const req = announcing(size)
      const reading = readBody(pool, req)
      for (const piece of pieces(Buffer.alloc(size, 1), 64 * KIB)) {
        req.push(piece)
        await turn()
      }
      req.push(null)
      const lease = await reading
      lease.release()
      const { classes } = await allBack(pool)
      const sizes = classes.map(({ blockSize }) => blockSize)
      const outgrown = sizes.slice(0, -1).reduce((sum, blockSize) => sum + blockSize, 0)
      assert.ok(outgrown <= 0.6 * size, `${sizes} for ${size}`)
      assert.ok(sizes.at(-1) < 1.25 * size + 64, `${sizes} for ${size}`)
    }
  })

  test('so 16 connections that announce 16 MiB each have 1 MiB at most', async () => {
    const pool = new BufferPool({ zeroOnRelease: true })
    const outcomes = []
    let count = 0
    const server = http.createServer((req) => {
      count++
      readBody(pool, req).catch((error) => outcomes.push(error.code))
    })
    await serving(server, async (port) => {
      const sockets = Array.from({ length: 16 }, () => {
        const socket = net.connect(port, HOST)
        socket.on('error', () => {})
        socket.write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${16 * MIB}\r\n\r\n`)
        return socket
      })
      await until(() => count === 16, 'all requests have come')
      for (let i = 1; i <= 20; i++) {
        for (const socket of sockets) socket.write('x')
        await until(() => sockets.every(({ bytesWritten }) => bytesWritten > i), 'all have sent')
        const { inUseBytes, peakInUseBytes } = pool.stats()
        assert.ok(Math.max(inUseBytes, peakInUseBytes) <= 16 * 64 * KIB, `${inUseBytes} bytes`)
      }
      await until(() => pool.stats().inUseCount === 16, 'all have a block')
      assert.ok(pool.stats().inUseBytes <= 16 * 64 * KIB)
      for (const socket of sockets) socket.destroy()
      await until(() => outcomes.length === 16, 'all are told')
    })
    assert.deepEqual(new Set(outcomes), new Set(['ECONNRESET']))
    const { freshBytes } = await allBack(pool)
    assert.ok(freshBytes <= 16 * 64 * KIB, `${freshBytes} bytes`)
  })
})

describe('options.length', () => {
  test('sizes the block of a stream that announces nothing', async () => {
    const pool = new BufferPool()
    for (const size of [0, 1, 40_000, 200_000]) {
      const body = randomBytes(size)
      const lease = await readBody(pool, Readable.from(pieces(body, 30_000)), { length: size })
      assert.ok(lease.buffer.equals(body))
      lease.release()
    }
    await allBack(pool)
    const one = new BufferPool()
    const lease = await readBody(one, Readable.from([Buffer.alloc(40_000)]), { length: 40_000 })
    lease.release()
    const { allocCount, allocBytes } = await allBack(one)
    assert.deepEqual([allocCount, allocBytes], [1, 40_000])
  })

  test('that is wrong fails as a wrong Content-Length does', async () => {
    const pool = new BufferPool()
    for (const [length, body] of [
      [5, 'abcd'],
      [3, 'abcd'],
      [1, ''],
      [0, 'a'],
      [100_000, 'abc']
    ]) {
      await assert.rejects(readBody(pool, Readable.from([body]), { length }), {
        code: 'ERR_HTTP_CONTENT_LENGTH_MISMATCH',
        message: `The body of "req" must have the ${length} bytes of options.length. Received ${body.length}`
      })
    }
    const over = Readable.from([])
    over.resume()
    await once(over, 'end')
    await assert.rejects(readBody(pool, over, { length: 1 }), {
      code: 'ERR_HTTP_CONTENT_LENGTH_MISMATCH'
    })
    await allBack(pool)
  })

  test('above the limit is too large before anything is read', async () => {
    const pool = new BufferPool()
    const source = Readable.from(['abc'])
    await assert.rejects(readBody(pool, source, { length: 11, limit: 10 }), {
      code: 'ERR_CISTERN_BODY_TOO_LARGE',
      statusCode: 413,
      message: 'The body of "req" must have at most options.limit = 10 bytes. options.length is 11'
    })
    assert.equal(source.readableDidRead, false)
    assert.equal(pool.stats().allocCount, 0)
  })

  for (const { name, createServer, send } of TRANSPORTS) {
    test(`and a Content-Length must be the same, over ${name}`, async () => {
      const pool = new BufferPool()
      const server = createServer(async (req, res) => {
        try {
          const lease = await readBody(pool, req, { length: 100_000 })
          res.end(hash(lease.buffer))
          lease.release()
        } catch (error) {
          res.end(error.message)
        }
      })
      await serving(server, async (port) => {
        const body = randomBytes(100_000)
        const chunks = () => pieces(body, 30_000)
        const same = await send({ port, headers: { 'content-length': 100_000 }, chunks: chunks() })
        assert.equal(String(same.body), hash(body))
        const none = await send({ port, chunks: chunks() })
        assert.equal(String(none.body), hash(body))
        const other = await send({ port, headers: { 'content-length': 3 }, chunks: ['abc'] })
        assert.equal(
          String(other.body),
          'The body of "req" must have the 100000 bytes of options.length. Received a Content-Length of 3'
        )
      })
      await allBack(pool)
    })
  }
})

describe('The body of a response to undici', () => {
  const body = randomBytes(300_000)
  const answer = (_req, res) => res.setHeader('content-length', body.length).end(body)
  /** Asks by undici, and hands its response on. */
  const asked = (use) =>
    serving(http.createServer(answer), async (port) => {
      const agent = new undici.Agent()
      try {
        await use(`http://127.0.0.1:${port}/`, agent)
      } finally {
        await agent.destroy()
      }
    })

  test('has no headers of its own: options.length sizes its block', async () => {
    const pool = new BufferPool()
    const read = async (length) => {
      const before = pool.stats().allocBytes
      await asked(async (url, dispatcher) => {
        const { headers, body: stream } = await undici.request(url, { dispatcher })
        const known = Number(headers['content-length'])
        const lease = await readBody(pool, stream, length ? { length: known } : {})
        assert.ok(lease.buffer.equals(body))
        lease.release()
      })
      return pool.stats().allocBytes - before
    }
    const unknown = await read(false)
    assert.ok((await read(true)) < unknown)
    await asked(async (url, dispatcher) => {
      const { body: stream } = await undici.request(url, { dispatcher })
      const hashed = []
      for await (const chunk of chunks(pool, stream)) hashed.push(Buffer.from(chunk))
      assert.ok(Buffer.concat(hashed).equals(body))
    })
    await allBack(pool)
  })

  test('is rejected where it has another length, or the limit is lower', async () => {
    const pool = new BufferPool()
    for (const [options, code] of [
      [{ length: body.length - 1 }, 'ERR_HTTP_CONTENT_LENGTH_MISMATCH'],
      [{ length: body.length + 1 }, 'ERR_HTTP_CONTENT_LENGTH_MISMATCH'],
      [{ length: body.length, limit: 1000 }, 'ERR_CISTERN_BODY_TOO_LARGE'],
      [{ limit: 1000 }, 'ERR_CISTERN_BODY_TOO_LARGE']
    ]) {
      await asked(async (url, dispatcher) => {
        const { body: stream } = await undici.request(url, { dispatcher })
        await assert.rejects(readBody(pool, stream, options), { code })
        assert.ok(stream.destroyed)
      })
    }
    await allBack(pool)
  })

  test('of fetch is read by way of Readable.fromWeb', async () => {
    const pool = new BufferPool()
    await asked(async (url, dispatcher) => {
      const response = await undici.fetch(url, { dispatcher })
      const length = Number(response.headers.get('content-length'))
      const lease = await readBody(pool, Readable.fromWeb(response.body), { length })
      assert.ok(lease.buffer.equals(body))
      lease.release()
    })
    await allBack(pool)
  })
})

describe('A body of an announced length, at the ceiling,', () => {
  test(
    'waits for its next block without the one that it had',
    inEveryMode(
      async (pool) => {
        const body = randomBytes(100_000)
        const req = announcing(body.length)
        const reading = readBody(pool, req)
        req.push(body.subarray(0, 10_000))
        await turn()
        assert.equal(pool.stats().inUseCount, 1)
        const others = pool.lease(30_000)
        req.push(body.subarray(10_000))
        req.push(null)
        await until(() => pool.stats().waitCount === 1, 'it waits')
        assert.equal(pool.stats().inUseCount, 1, "the other's")
        await turn()
        others.release()
        const lease = await reading
        assert.ok(lease.buffer.equals(body))
        lease.release()
        const { unpooledCount } = await allBack(pool)
        assert.equal(unpooledCount, 0)
      },
      { maxBytes: 128 * KIB }
    )
  )

  for (const [i, { name, createServer, send }] of TRANSPORTS.entries()) {
    const onExhausted = i % 2 === 0 ? 'throw' : 'unpooled'
    test(`is served in the end, and by the pool, over ${name} ('${onExhausted}')`, async () => {
      const pool = new BufferPool({ maxBytes: 2 * MIB, onExhausted })
      const server = createServer(async (req, res) => {
        const lease = await readBody(pool, req)
        res.end(hash(lease.buffer))
        lease.release()
      })
      await serving(server, async (port) => {
        await Promise.all(
          Array.from({ length: 16 }, async (_, i) => {
            const body = randomBytes(200_000 + 90_000 * i)
            async function* slowly() {
              for (const piece of pieces(body, 50_000)) {
                yield piece
                await turn()
              }
            }
            const headers = { 'content-length': body.length }
            const answer = await send({ port, headers, chunks: slowly() })
            assert.equal(String(answer.body), hash(body))
          })
        )
      })
      const { peakInUseBytes, unpooledCount, waitCount } = await allBack(pool)
      assert.ok(peakInUseBytes <= 2 * MIB)
      assert.equal(unpooledCount, 0)
      assert.ok(waitCount > 0)
    })
  }

  test('is rejected before anything is read where the pool can never hold it', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const req = announcing(2 * MIB)
    req.push('abc')
    await assert.rejects(readBody(pool, req), { code: 'ERR_CISTERN_EXHAUSTED' })
    assert.equal(req.readableDidRead, false)
    assert.equal(pool.stats().allocCount, 0)
  })

  /** Ways to end a reading while it waits, each with the error that it rejects with. */
  const ENDS = {
    'its signal': { end: (_req, aborting) => aborting.abort(), code: 'ABORT_ERR' },
    'an error': { end: (req) => req.destroy(new RangeError('broken')), message: 'broken' },
    'a close': { end: (req) => req.destroy(), code: 'ERR_STREAM_PREMATURE_CLOSE' },
    'a chunk too many': {
      end: (req) => req.emit('data', Buffer.alloc(50_000)),
      code: 'ERR_HTTP_CONTENT_LENGTH_MISMATCH'
    },
    'the close of the pool': {
      end: (_req, _aborting, pool) => pool.close(),
      code: 'ERR_CISTERN_CLOSED'
    }
  }
  for (const [what, { end, ...error }] of Object.entries(ENDS)) {
    test(
      `keeps nothing when ${what} ends the wait`,
      inEveryMode(
        async (pool) => {
          const req = announcing(100_000)
          const aborting = new AbortController()
          const reading = readBody(pool, req, { signal: aborting.signal })
          req.push(Buffer.alloc(10_000))
          await turn()
          const others = pool.lease(30_000)
          req.push(Buffer.alloc(50_000))
          await until(() => pool.stats().waitCount === 1, 'it waits')
          end(req, aborting, pool)
          await assert.rejects(reading, error)
          assert.equal(pool.stats().inUseCount, 1, "the other's")
          // No other waiter precedes this one.
          if (what !== 'the close of the pool') pool.release(await pool.acquire(64))
          others.release()
          await turn()
          for (const event of ['data', 'end', 'error', 'close']) {
            assert.equal(req.listenerCount(event), 0, event)
          }
          await allBack(pool)
        },
        { maxBytes: 128 * KIB }
      )
    )
  }

  test('leaves a request open for the answer when its signal ends the wait', async () => {
    const pool = new BufferPool({ maxBytes: 128 * KIB })
    const server = http.createServer(async (req, res) => {
      const aborting = new AbortController()
      const reading = readBody(pool, req, { signal: aborting.signal })
      await until(() => pool.stats().waitCount === 1, 'it waits')
      aborting.abort()
      await assert.rejects(reading, { name: 'AbortError' })
      res.statusCode = 503
      res.end()
    })
    await serving(server, async (port) => {
      const others = pool.lease(112 * KIB)
      const [{ send }] = TRANSPORTS
      const headers = { 'content-length': 100_000 }
      const { status } = await send({ port, headers, chunks: [Buffer.alloc(100_000)] })
      assert.equal(status, 503)
      others.release()
    })
    await allBack(pool)
  })

  test("is bounded in time by the server's requestTimeout", async () => {
    const pool = new BufferPool({ maxBytes: 128 * KIB })
    let error
    const server = http.createServer(
      { requestTimeout: 100, headersTimeout: 100, connectionsCheckingInterval: 20 },
      async (req) => {
        error = await readBody(pool, req).catch((reason) => reason)
      }
    )
    await serving(server, async (port) => {
      const others = pool.lease(112 * KIB)
      const socket = net.connect(port, HOST).resume()
      socket.on('error', () => {})
      socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n')
      socket.write(Buffer.alloc(50_000))
      await until(() => pool.stats().waitCount === 1, 'it waits')
      await until(() => error, 'it has an outcome')
      assert.equal(error.code, 'ECONNRESET')
      assert.equal(pool.stats().inUseCount, 1, "the other's")
      others.release()
    })
    await allBack(pool)
  })

  test('takes what someone else has it give meanwhile', async () => {
    const pool = new BufferPool({ maxBytes: 4 * MIB + 64 * KIB })
    const body = randomBytes(MIB)
    const req = announcing(body.length)
    const reading = readBody(pool, req)
    req.push(body.subarray(0, 10_000))
    await turn()
    const others = pool.lease(4 * MIB)
    // Other code reads the same stream, and does not wait.
    req.on('pause', () => req.resume())
    for (const piece of pieces(body.subarray(10_000), 100_000)) {
      req.push(piece)
      await turn()
    }
    req.push(null)
    await once(req, 'close')
    assert.equal(pool.stats().waitCount, 1)
    others.release()
    const lease = await reading
    assert.ok(lease.buffer.equals(body))
    lease.release()
    await allBack(pool)
  })

  test('is served by a request over HTTP/1 whose client waits for the answer', async () => {
    const pool = new BufferPool({ maxBytes: 1 * MIB })
    const server = http.createServer(async (req, res) => {
      const lease = await readBody(pool, req)
      res.end(hash(lease.buffer))
      lease.release()
    })
    await serving(server, async (port) => {
      const body = randomBytes(900_000)
      const others = pool.lease(200_000)
      const [{ send }] = TRANSPORTS
      const headers = { 'content-length': body.length }
      const answering = send({ port, headers, chunks: pieces(body, 10_000) })
      await until(() => pool.stats().waitCount > 0, 'it waits')
      others.release()
      const answer = await answering
      assert.equal(String(answer.body), hash(body))
    })
    await allBack(pool)
  })

  test('is read through a PassThrough that has ended before memory is there', async () => {
    const pool = new BufferPool({ maxBytes: 128 * KIB })
    const body = randomBytes(100_000)
    const through = new PassThrough({ highWaterMark: MIB })
    const reading = readBody(pool, through, { length: body.length })
    await turn()
    const others = pool.lease(30_000)
    for (const piece of pieces(body, 10_000)) through.write(piece)
    through.end()
    await until(() => pool.stats().waitCount === 1, 'it waits')
    await turn()
    others.release()
    const lease = await reading
    assert.ok(lease.buffer.equals(body))
    lease.release()
    await allBack(pool)
  })
})
