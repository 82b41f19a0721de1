'use strict'

/** `readBody` of streams that are no requests. */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const { PassThrough, Readable } = require('node:stream')
const { describe, test } = require('node:test')
const { setImmediate: turn } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { readBody } = require('../../lib/io')
const { until } = require('../support/helpers')
const { HOST, allBack, pieces, randomBytes, serving } = require('../support/io-servers')
const { MIB, listenersOf } = require('../support/read-body')

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
        // This is less than the Content-Length of a body that does not come.
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
