'use strict'

/**
 * Loops over `chunks` that are left early: by the limit, `break`, `throw` or a signal. An answer
 * can still be sent.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const http2 = require('node:http2')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { Readable } = require('node:stream')
const { after, describe, test } = require('node:test')
const { MessageChannel, receiveMessageOnPort } = require('node:worker_threads')
const { BufferPool } = require('../..')
const { chunks } = require('../../lib/io')
const { external, moves, posts, until } = require('../support/helpers')
const {
  HOST,
  TRANSPORTS,
  allBack,
  bodyOf,
  hash,
  pieces,
  randomBytes,
  serving
} = require('../support/io-servers')

const KIB = 1024
const MIB = 1024 * KIB
const LIMIT = 100_000

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-leaving-'))
after(() => fs.rmSync(folder, { recursive: true }))

const TOO_LARGE = { code: 'ERR_CISTERN_BODY_TOO_LARGE', statusCode: 413 }

/** Returns the length of a body that a loop reads. */
async function lengthOf(iterable) {
  let length = 0
  for await (const chunk of iterable) length += chunk.length
  return length
}

/** Returns a server that answers with the length of a body, or with the status of its error. */
function measuring(pool, options = {}) {
  return async (req, res) => {
    try {
      res.end(String(await lengthOf(chunks(pool, req, { limit: LIMIT, ...options }))))
    } catch (error) {
      res.statusCode = error.statusCode ?? 500
      res.end(`${error.code}`)
    }
  }
}

describe('The limit of chunks', () => {
  for (const { name, createServer, send } of TRANSPORTS) {
    test(`reaches a client that goes on sending, over ${name}`, async () => {
      const pool = new BufferPool()
      await serving(createServer(measuring(pool)), async (port) => {
        for (const size of [0, 1, LIMIT]) {
          const answer = await send({ port, chunks: pieces(Buffer.alloc(size), 30_000) })
          assert.deepEqual([answer.status, String(answer.body)], [200, String(size)])
        }
        for (const size of [LIMIT + 1, 8 * MIB]) {
          for (const headers of [{}, { 'content-length': size }]) {
            const body = pieces(Buffer.alloc(size), 64 * KIB)
            const answer = await send({ port, headers, chunks: body })
            assert.deepEqual([answer.status, String(answer.body)], [413, TOO_LARGE.code])
          }
        }
      })
      await allBack(pool)
    })
  }

  test('refuses a Content-Length before anything is read or leased', async () => {
    const pool = new BufferPool()
    const server = http.createServer(measuring(pool))
    await serving(server, async (port) => {
      const req = http.request({ host: HOST, port, method: 'POST' })
      req.setHeader('content-length', LIMIT + 1)
      req.flushHeaders()
      const [res] = await once(req, 'response')
      assert.equal(res.statusCode, 413)
      req.destroy()
    })
    assert.equal(pool.stats().allocCount, 0)
    const { allocCount } = pool.stats()
    const source = Object.assign(Readable.from(['abc']), { headers: { 'content-length': '11' } })
    await assert.rejects(lengthOf(chunks(pool, source, { limit: 10 })), {
      ...TOO_LARGE,
      message:
        'The body of "source" must have at most options.limit = 10 bytes. Its Content-Length is 11'
    })
    assert.equal(source.readableDidRead, false)
    assert.equal(pool.stats().allocCount, allocCount)
  })

  test('reaches a client that reads nothing before it has sent all', async () => {
    const pool = new BufferPool()
    await serving(http.createServer(measuring(pool)), async (port) => {
      const socket = net.connect(port, HOST)
      let hasSent = false
      socket.write('POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n')
      for (let i = 0; i < 16; i++) {
        socket.write('100000\r\n')
        const isTaken = socket.write(Buffer.alloc(MIB))
        socket.write('\r\n')
        if (!isTaken) await once(socket, 'drain')
      }
      socket.write('0\r\n\r\n', () => {
        hasSent = true
      })
      const [answer] = await once(socket, 'data')
      assert.match(String(answer), /^HTTP\/1\.1 413 /)
      await until(() => hasSent, 'all of it was taken')
      // The next request lies behind it.
      socket.write(
        'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc'
      )
      const rest = await bodyOf(socket)
      assert.match(String(rest), /HTTP\/1\.1 200 OK.*\r\n\r\n3$/s)
    })
    await allBack(pool)
  })

  test('can be answered on a bare http2 stream, which is reset once the answer is out', async () => {
    const pool = new BufferPool()
    const server = http2.createServer()
    let closed
    server.on('stream', async (stream) => {
      closed = once(stream, 'close')
      await assert.rejects(lengthOf(chunks(pool, stream, { limit: LIMIT })), TOO_LARGE)
      stream.respond({ ':status': 413 })
      stream.end('too large')
    })
    await serving(server, async (port) => {
      const session = http2.connect(`http://${HOST}:${port}`)
      const req = session.request({ ':method': 'POST' })
      req.on('error', () => {})
      req.write(Buffer.alloc(8 * MIB))
      const [headers] = await once(req, 'response')
      assert.equal(headers[':status'], 413)
      assert.equal(String(await bodyOf(req)), 'too large')
      await closed
      session.destroy()
    })
    await allBack(pool)
  })

  test('bounds files, web streams and generators, too, and ends them', async () => {
    const pool = new BufferPool()
    const contents = randomBytes(1000)
    const file = path.join(folder, 'file')
    fs.writeFileSync(file, contents)
    let isClosed = false
    async function* generate() {
      try {
        for (const piece of pieces(contents, 100)) yield piece
      } finally {
        isClosed = true
      }
    }
    for (const sourceOf of [
      () => file,
      () => fs.createReadStream(file),
      () => Readable.from(pieces(contents, 100)),
      () => new Blob([contents]).stream(),
      generate
    ]) {
      assert.equal(await lengthOf(chunks(pool, sourceOf(), { chunkSize: 300, limit: 1000 })), 1000)
      const source = sourceOf()
      let length = 0
      const read = async () => {
        const iterator = chunks(pool, source, { chunkSize: 300, limit: 999 })
        for await (const chunk of iterator) length += chunk.length
      }
      await assert.rejects(read, TOO_LARGE)
      assert.ok(length < 1000)
      if (source instanceof Readable) assert.ok(source.destroyed)
    }
    assert.ok(isClosed)
    await allBack(pool)
  })

  test('that is wrong names itself', () => {
    const pool = new BufferPool()
    for (const [limit, code] of [
      [-1, 'ERR_OUT_OF_RANGE'],
      [1.5, 'ERR_OUT_OF_RANGE'],
      ['1', 'ERR_INVALID_ARG_TYPE']
    ]) {
      assert.throws(
        () => chunks(pool, Readable.from([]), { limit }),
        (error) => error.code === code && error.message.includes('"options.limit"')
      )
    }
  })
})

/** Ways to leave a loop whose body has become too long. */
const WAYS = {
  break: async (iterable) => {
    for await (const chunk of iterable) if (chunk.length > 0) break
    throw Object.assign(new Error('left'), { statusCode: 413 })
  },
  throw: async (iterable) => {
    for await (const chunk of iterable) {
      throw Object.assign(new Error(`left with ${chunk.length}`), { statusCode: 413 })
    }
  }
}

describe('A loop over chunks of a request that is left by', () => {
  for (const { name, createServer, send } of TRANSPORTS) {
    for (const [way, leave] of Object.entries(WAYS)) {
      test(`${way} leaves it as Node's own iterator does, and its client gets the answer: ${name}`, async () => {
        const pool = new BufferPool()
        const seen = []
        const server = createServer(async (req, res) => {
          const events = []
          for (const event of ['aborted', 'error', 'close']) {
            req.on(event, (error) => events.push(`${event} ${error?.code}`))
          }
          try {
            await leave(req.url === '/plain' ? req : chunks(pool, req))
          } catch ({ statusCode }) {
            await new Promise(setImmediate)
            seen.push({
              events: [...events],
              destroyed: req.destroyed,
              socket: req.socket === null
            })
            res.statusCode = statusCode
            res.end('left')
          }
        })
        await serving(server, async (port) => {
          for (const path of ['/plain', '/chunks']) {
            for (const headers of [{}, { 'content-length': 8 * MIB }]) {
              const body = pieces(Buffer.alloc(8 * MIB), 64 * KIB)
              const answer = await send({ port, path, headers, chunks: body })
              assert.deepEqual([answer.status, String(answer.body)], [413, 'left'], path)
            }
          }
        })
        assert.deepEqual(seen.slice(2), seen.slice(0, 2))
        await allBack(pool)
      })
    }

    test(`a signal can still be answered, over ${name}`, async () => {
      const pool = new BufferPool()
      const server = createServer(async (req, res) => {
        const controller = new AbortController()
        const { signal } = controller
        try {
          for await (const chunk of chunks(pool, req, { signal })) {
            if (chunk.length > 0) controller.abort()
          }
        } catch ({ code }) {
          res.statusCode = 408
          res.end(code)
        }
      })
      await serving(server, async (port) => {
        const body = pieces(Buffer.alloc(8 * MIB), 64 * KIB)
        const answer = await send({ port, chunks: body })
        assert.deepEqual([answer.status, String(answer.body)], [408, 'ABORT_ERR'])
      })
      await allBack(pool)
    })

    test(`what is fired before it began can still be answered, over ${name}`, async () => {
      const pool = new BufferPool()
      const server = createServer(async (req, res) => {
        const { code } = await lengthOf(chunks(pool, req, { signal: AbortSignal.abort() })).catch(
          (error) => error
        )
        res.statusCode = 408
        res.end(code)
      })
      await serving(server, async (port) => {
        const body = pieces(Buffer.alloc(MIB), 64 * KIB)
        const answer = await send({ port, chunks: body })
        assert.deepEqual([answer.status, String(answer.body)], [408, 'ABORT_ERR'])
      })
      await allBack(pool)
    })
  }
})

describe('A chunk', () => {
  test('that comes at once is alive beside the one that is asked for right behind it', async () => {
    const pool = new BufferPool()
    const contents = randomBytes(5000)
    const file = path.join(folder, 'ahead')
    fs.writeFileSync(file, contents)
    for (const source of [file, Readable.from([contents])]) {
      const iterator = chunks(pool, source, { chunkSize: 1000 })
      const first = (await iterator.next()).value
      // By now the next chunk is there.
      await until(() => pool.stats().inUseCount === (source === file ? 2 : 1), 'it is read ahead')
      await new Promise((resolve) => setTimeout(resolve, 20))
      const both = await Promise.all([iterator.next(), iterator.next()])
      assert.equal(pool.owns(first) && moves, false)
      const got = both.map(({ value }) => Buffer.from(value))
      assert.ok(Buffer.concat(got).equals(contents.subarray(1000, 3000)))
      await iterator.return()
      assert.ok(both.every(({ value }) => value.length === 0))
    }
    await allBack(pool)
  })

  test('that is transferred is not released when the loop moves on', {
    skip: !(posts && external)
  }, async () => {
    const pool = new BufferPool()
    const body = randomBytes(300_000)
    const { port1, port2 } = new MessageChannel()
    for await (const chunk of chunks(pool, Readable.from([body]), { chunkSize: 64 * KIB })) {
      const { buffer, byteOffset, length } = chunk
      port1.postMessage({ buffer, byteOffset, length }, [buffer])
    }
    const got = []
    for (let received = receiveMessageOnPort(port2); received; ) {
      const { buffer, byteOffset, length } = received.message
      const bytes = Buffer.from(buffer, byteOffset, length)
      got.push(Buffer.from(bytes))
      pool.release(bytes)
      received = receiveMessageOnPort(port2)
    }
    port1.close()
    assert.equal(hash(Buffer.concat(got)), hash(body))
    assert.equal(pool.stats().inUseCount, 0)
  })
})
