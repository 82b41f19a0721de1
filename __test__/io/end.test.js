'use strict'

/** `end`: the memory stays as it is while anyone sends it, and the block is released once. */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { Duplex, PassThrough, Transform, Writable } = require('node:stream')
const { describe, test } = require('node:test')
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises')
const { markAsUntransferable } = require('node:worker_threads')
const zlib = require('node:zlib')
const { BufferPool } = require('../..')
const { end } = require('../../lib/io')
const { MODES, external, inEveryMode, moves, posts, until } = require('../support/helpers')
const {
  ALIEN,
  HOST,
  TRANSPORTS,
  allBack,
  bodyOf,
  cert,
  frames,
  hash,
  randomBytes,
  serving,
  vandalize
} = require('../support/io-servers')

const KIB = 1024
const MIB = 1024 * KIB

const [plain, secure] = TRANSPORTS
const http2s = TRANSPORTS.filter(({ isHttp2 }) => isHttp2)

/**
 * Returns a pooled Buffer of these bytes.
 *
 * @param {BufferPool} pool
 * @param {Buffer} bytes
 */
function pooled(pool, bytes) {
  const buffer = pool.allocUnsafe(bytes.length)
  bytes.copy(buffer)
  return buffer
}

/**
 * Reads slowly, so that most of it waits in the sender's memory.
 *
 * @param {AsyncIterable<Buffer>} readable
 */
async function readSlowly(readable) {
  const chunks = []
  for await (const chunk of readable) {
    chunks.push(chunk)
    if (chunks.length % 4 === 0) await sleep(1)
  }
  return Buffer.concat(chunks)
}

/** Returns the bytes that a client of each kind gets when it reads slowly. */
async function getSlowly(transport, port, { method = 'GET', url = '/' } = {}) {
  if (!transport.isHttp2) {
    const module = transport === secure ? require('node:https') : http
    const req = module
      .request({ host: HOST, port, method, path: url, ca: cert, agent: false })
      .end()
    const [res] = await once(req, 'response')
    return readSlowly(res)
  }
  const session = require('node:http2').connect(`${transport.scheme}://${HOST}:${port}`, {
    ca: cert
  })
  const req = session.request({ ':method': method, ':path': url }).end()
  const body = await readSlowly(req)
  session.destroy()
  return body
}

describe('end', () => {
  for (const transport of TRANSPORTS) {
    for (const { mode, options } of MODES.slice(0, 2)) {
      test(`sends slow readers what it was given, ${mode}, over ${transport.name}`, async () => {
        const pool = new BufferPool({ ...options, maxBytes: 512 * MIB })
        const size = 10 * MIB
        const content = randomBytes(size)
        const server = transport.createServer((req, res) => {
          const buffer = pooled(pool, content)
          buffer.write(req.url)
          assert.equal(end(pool, res, buffer), res)
          // The memory is lent, and not copied.
          assert.equal(pool.owns(buffer), transport !== http2s[0])
        })
        await serving(server, async (port) => {
          const stop = vandalize(pool, size)
          const bodies = await Promise.all(
            ['/1', '/2', '/3', '/4'].map((url) => getSlowly(transport, port, { url }))
          )
          stop()
          for (const [i, body] of bodies.entries()) {
            content.write(`/${i + 1}`)
            assert.equal(hash(body), hash(content))
          }
        })
        const { allocCount, releaseCount } = await allBack(pool)
        assert.equal(allocCount, releaseCount)
      })
    }

    test(`releases what clients do not take, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const content = randomBytes(8 * MIB)
      const server = transport.createServer((_req, res) => end(pool, res, pooled(pool, content)))
      await serving(server, async (port) => {
        const clients = Array.from({ length: 10 }, async (_, i) => {
          const socket = transport.connect(port)
          socket.on('error', () => {})
          if (transport.isHttp2) {
            socket.write(frames.opening(1_000_000))
            socket.write(frames.headers(1, { method: 'GET', isLast: true }))
          } else socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
          let received = 0
          socket.on('data', ({ length }) => {
            received += length
            if (received > i * 200_000) socket.pause()
          })
          await until(() => received > i * 50_000, 'it has come')
          await sleep(i)
          if (transport.isHttp2 && i % 2 === 0) socket.write(frames.reset(1, 8))
          else if (i % 3 === 0 && transport !== secure && !transport.isHttp2)
            socket.resetAndDestroy()
          else socket.destroy()
          await sleep(10)
          socket.destroy()
        })
        await Promise.all(clients)
        await until(() => pool.stats().inUseCount === 0, 'all is back, though the server stays')
      })
      await allBack(pool)
    })

    test(`releases what has no body, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const server = transport.createServer((req, res) => {
        res.statusCode = Number(req.url.slice(1))
        end(pool, res, pooled(pool, Buffer.alloc(5000, 'x')))
      })
      await serving(server, async (port) => {
        for (const [method, path] of [
          ['HEAD', '/200'],
          ['GET', '/204'],
          ['GET', '/304'],
          ['HEAD', '/304']
        ]) {
          const { status, body } = await transport.send({ port, method, path })
          assert.equal(`/${status}`, path)
          assert.equal(body.length, 0)
          await until(() => pool.stats().inUseCount === 0, `${method} ${path}`)
        }
      })
      await allBack(pool)
    })

    test(`sends after headers, and after what was written, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const server = transport.createServer((req, res) => {
        if (req.url === '/head') res.writeHead(201, { 'content-type': 'text/plain' })
        if (req.url === '/begun') {
          res.write('abc')
          res.write('def')
        }
        end(pool, res, pooled(pool, Buffer.from('ghi')).subarray(0, 2))
      })
      await serving(server, async (port) => {
        for (const [path, status, expected] of [
          ['/', 200, 'gh'],
          ['/head', 201, 'gh'],
          ['/begun', 200, 'abcdefgh']
        ]) {
          const answer = await transport.send({ port, method: 'GET', path })
          assert.equal(answer.status, status)
          assert.equal(String(answer.body), expected)
        }
      })
      await allBack(pool)
    })

    test(`releases at once what a response does not take any more, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const outcomes = {}
      const server = transport.createServer(async (req, res) => {
        const { url } = req
        const errors = []
        res.on('error', (error) => errors.push(error.code))
        if (url === '/ended') res.end('abc')
        if (url === '/finished') {
          res.end('abc')
          await once(res, 'finish')
        }
        if (url === '/destroyed') (transport.isHttp2 ? res.stream : res).destroy()
        if (url === '/closed') {
          ;(transport.isHttp2 ? res.stream : res).destroy()
          await until(() => (transport.isHttp2 ? res.stream : req).closed, 'it is closed')
          await turn()
        }
        const buffer = pool.allocUnsafe(1000)
        assert.equal(end(pool, res, buffer), res)
        assert.equal(pool.owns(buffer), false)
        await sleep(5)
        outcomes[url] = errors
      })
      await serving(server, async (port) => {
        for (const path of ['/ended', '/finished', '/destroyed', '/closed']) {
          await transport.send({ port, method: 'GET', path }).catch(() => {})
          await until(() => outcomes[path], `${path} has an outcome`)
        }
      })
      // Node reports the error only on a message of HTTP/1.
      const late = transport.isHttp2 ? [] : ['ERR_STREAM_WRITE_AFTER_END']
      assert.deepEqual(outcomes['/ended'], late)
      assert.deepEqual(outcomes['/destroyed'], [])
      assert.deepEqual(outcomes['/closed'], [])
      await allBack(pool)
    })

    test(`releases when the response is destroyed afterwards, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const server = transport.createServer((req, res) => {
        end(pool, res, pooled(pool, Buffer.alloc(8 * MIB)))
        const destroy = () => (transport.isHttp2 ? res.stream : res).destroy()
        if (req.url === '/now') destroy()
        else setTimeout(destroy, 5)
      })
      await serving(server, async (port) => {
        for (const path of ['/now', '/later', '/now', '/later']) {
          await transport.send({ port, method: 'GET', path }).catch(() => {})
        }
        await until(() => pool.stats().inUseCount === 0, 'all is back, though the server stays')
      })
      await allBack(pool)
    })

    test(`leaves no listener behind, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const listeners = []
      const count = (res) => ['finish', 'close', 'error'].map((event) => res.listenerCount(event))
      const server = transport.createServer((req, res) => {
        const before = count(res)
        const socket = transport.isHttp2 ? undefined : req.socket
        const closing = socket?.listenerCount('close')
        end(pool, res, pooled(pool, Buffer.from('abc')))
        res.once('close', () =>
          setImmediate(() => {
            // The end brings listeners of Node's own: no more than without cistern.
            listeners.push([before, count(res), closing, socket?.listenerCount('close')])
          })
        )
      })
      await serving(server, async (port) => {
        await transport.send({ port, method: 'GET' })
        await until(() => listeners.length > 0, 'it is closed')
      })
      const [[before, after, closing, stillClosing]] = listeners
      assert.deepEqual(after, before)
      if (closing !== undefined) assert.ok(stillClosing <= closing)
      await allBack(pool)
    })
  }

  for (const face of ['request', 'stream']) {
    test(`keeps the frames of what was reset as they are: http2's '${face}'`, async () => {
      // Node calls back for the rest of a write while frames of its beginning wait in the socket.
      const transport = http2s[0]
      const pool = new BufferPool({ maxBytes: 512 * MIB })
      const size = MIB
      const streams = Array.from({ length: 60 }, (_, i) => 1 + 2 * i)
      const server = transport.createServer()
      let given = 0
      server.on(face, (...args) => {
        const res = args.find((arg) => 'write' in arg)
        res.on('error', () => {})
        end(pool, res, pool.allocUnsafe(size).fill('x'))
        given++
      })
      await serving(server, async (port) => {
        const socket = net.connect(port, HOST)
        await once(socket, 'connect')
        socket.pause()
        socket.write(frames.opening(700_000))
        for (const stream of streams) {
          socket.write(frames.headers(stream, { method: 'GET', isLast: true }))
        }
        await until(() => given >= 10, 'some of it is on its way')
        await sleep(100)
        for (const stream of streams) socket.write(frames.reset(stream, 8))
        await until(() => pool.stats().inUseCount === 0, 'all is back')
        const stop = vandalize(pool, size)
        await sleep(20)
        const chunks = []
        socket.on('error', () => {})
        socket.on('data', (chunk) => chunks.push(chunk))
        socket.resume()
        await until(() => socket.bytesRead > 4 * MIB, 'most of it has come')
        let seen = -1
        await until(async () => {
          const before = seen
          seen = chunks.length
          await sleep(100)
          return seen === before
        }, 'no more comes')
        stop()
        socket.destroy()
        let length = 0
        for (const { type, payload } of frames.parse(Buffer.concat(chunks))) {
          if (type !== 0) continue
          length += payload.length
          assert.equal(payload.indexOf(ALIEN), -1, 'what another has written goes out')
        }
        assert.ok(length > 4 * MIB, `${length} bytes came`)
      })
      await allBack(pool)
    })
  }

  test('takes an http2 stream', async () => {
    const pool = new BufferPool({ maxBytes: 512 * MIB })
    const content = randomBytes(10 * MIB)
    const transport = http2s[1]
    const server = transport.createServer()
    server.on('stream', (stream, { ':path': url }) => {
      stream.on('error', () => {})
      if (url === '/destroyed') stream.destroy()
      const buffer = pooled(pool, content)
      assert.equal(end(pool, stream, buffer), stream)
      assert.equal(pool.owns(buffer), url !== '/destroyed')
      if (url === '/later') setTimeout(() => stream.destroy(), 5)
    })
    await serving(server, async (port) => {
      const stop = vandalize(pool, content.length)
      for (let i = 0; i < 2; i++) {
        assert.equal(hash(await getSlowly(transport, port)), hash(content))
      }
      for (const url of ['/destroyed', '/later']) await getSlowly(transport, port, { url })
      stop()
      await until(() => pool.stats().inUseCount === 0, 'all is back')
    })
    await allBack(pool)
  })

  test('sends responses that are queued behind others, and releases those that are never sent', async () => {
    const pool = new BufferPool()
    const waiting = []
    const server = http.createServer((req, res) => {
      if (req.url === '/1') waiting.push(res)
      else end(pool, res, pooled(pool, Buffer.from(req.url)))
    })
    await serving(server, async (port) => {
      for (const goes of [true, false]) {
        waiting.length = 0
        const socket = net.connect(port, HOST)
        const requests = Array.from(
          { length: 20 },
          (_, i) => `GET /${i + 1} HTTP/1.1\r\nHost: a\r\n\r\n`
        )
        socket.write(requests.join(''))
        await until(() => waiting.length > 0, 'it has come')
        if (goes) {
          let text = ''
          socket.on('data', (chunk) => {
            text += chunk
          })
          end(pool, waiting[0], pooled(pool, Buffer.from('/1')))
          await until(() => text.endsWith('/20'), 'the last has come')
          assert.deepEqual(
            text.match(/\/\d+$|\/\d+(?=HTTP)/g),
            requests.map((_, i) => `/${i + 1}`)
          )
          socket.destroy()
        } else {
          socket.resetAndDestroy()
        }
        await until(() => pool.stats().inUseCount === 0, 'all is back')
      }
    })
    await allBack(pool)
  })

  test("takes a client's request", async () => {
    const pool = new BufferPool({ maxBytes: 512 * MIB })
    const size = 10 * MIB
    const content = randomBytes(size)
    const server = http.createServer(async (req, res) => {
      if (req.url === '/reset') req.socket.destroy()
      else {
        const answer = hash(await readSlowly(req))
        await until(() => pool.stats().inUseCount === 0, 'it is back, with no answer yet')
        res.end(answer)
      }
    })
    const agent = new http.Agent({ keepAlive: true })
    await serving(server, async (port) => {
      const stop = vandalize(pool, size)
      for (const options of [{ agent }, { agent }, { agent: false }, {}]) {
        const req = http.request({ host: HOST, port, method: 'POST', ...options })
        const buffer = pooled(pool, content)
        assert.equal(end(pool, req, buffer), req)
        assert.ok(pool.owns(buffer))
        const [res] = await once(req, 'response')
        assert.equal(String(await bodyOf(res)), hash(content))
      }
      stop()
      const req = http.request({ host: HOST, port, method: 'POST', path: '/reset', agent })
      end(pool, req, pooled(pool, content))
      await assert.rejects(once(req, 'response'))
      const destroyed = http.request({ host: HOST, port, method: 'POST', agent })
      destroyed.on('error', () => {})
      end(pool, destroyed, pooled(pool, content))
      destroyed.destroy()
      // A connection of the user's own: its code may store the chunks.
      const own = http.request({
        method: 'POST',
        createConnection: () => net.connect(port, HOST)
      })
      const buffer = pooled(pool, content)
      end(pool, own, buffer)
      assert.equal(pool.owns(buffer), false)
      const [res] = await once(own, 'response')
      assert.equal(String(await bodyOf(res)), hash(content))
    })
    agent.destroy()
    const refused = http.request({ host: HOST, port: 1, method: 'POST' })
    end(pool, refused, pooled(pool, content))
    await assert.rejects(once(refused, 'response'), { code: 'ECONNREFUSED' })
    await allBack(pool)
  })

  test(
    'takes sockets and files, and any other Writable',
    inEveryMode(async (pool) => {
      const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-'))
      const size = 3 * MIB
      const content = randomBytes(size)
      const stop = vandalize(pool, size)
      try {
        const file = path.join(folder, 'file')
        const writable = fs.createWriteStream(file)
        end(pool, writable, pooled(pool, content))
        await once(writable, 'close')
        assert.equal(hash(fs.readFileSync(file)), hash(content))

        for (const transport of [plain, secure]) {
          const received = []
          const sink = async (socket) => received.push(hash(await readSlowly(socket)))
          const server =
            transport === plain
              ? net.createServer(sink)
              : require('node:tls').createServer(require('../support/io-servers'), sink)
          await serving(server, async (port) => {
            // The same holds before it is connected.
            const socket = transport.connect(port)
            end(pool, socket, pooled(pool, content))
            await until(() => received.length > 0, 'it has come')
            assert.deepEqual(received, [hash(content)])
          })
        }

        // These store the chunks, or pass them on.
        const through = new PassThrough()
        end(pool, through, pooled(pool, content))
        assert.equal(hash(await readSlowly(through)), hash(content))
        const counting = new Transform({ transform: (chunk, _encoding, done) => done(null, chunk) })
        end(pool, counting, pooled(pool, content))
        assert.equal(hash(await readSlowly(counting)), hash(content))
        const gzip = zlib.createGzip({ level: 1 })
        end(pool, gzip, pooled(pool, content))
        assert.equal(hash(zlib.gunzipSync(await readSlowly(gzip))), hash(content))
        const kept = []
        const recorder = new Writable({
          write(chunk, _encoding, done) {
            kept.push(chunk)
            setTimeout(done, 5)
          }
        })
        end(pool, recorder, pooled(pool, content))
        await once(recorder, 'finish')
        await sleep(5)
        assert.equal(hash(Buffer.concat(kept)), hash(content))
      } finally {
        stop()
        fs.rmSync(folder, { recursive: true })
      }
      await allBack(pool)
    })
  )

  test('releases what a stream does not take: destroyed, ended, failed', async () => {
    const pool = new BufferPool()
    const server = net.createServer((socket) => socket.resume())
    await serving(server, async (port) => {
      const errors = []
      const given = (stream, { before, after } = {}) => {
        stream.on('error', ({ code }) => errors.push(code))
        before?.(stream)
        end(pool, stream, pooled(pool, Buffer.alloc(8 * MIB)))
        after?.(stream)
      }
      const destroy = (stream) => stream.destroy()
      given(net.connect(port, HOST), { before: destroy })
      given(net.connect(port, HOST), { after: destroy })
      given(net.connect(port, HOST), { before: (socket) => socket.end() })
      given(net.connect(1, HOST))
      given(fs.createWriteStream('/nowhere/file'))
      const connected = net.connect(port, HOST)
      await once(connected, 'connect')
      given(connected, { after: destroy })
      await until(() => pool.stats().inUseCount === 0, 'all is back')
      await until(() => errors.includes('ECONNREFUSED') && errors.includes('ENOENT'), 'all is told')
      assert.ok(errors.includes('ERR_STREAM_WRITE_AFTER_END'), String(errors))
    })
    await allBack(pool)
  })

  test('gives a copy to a response that other code has changed', async () => {
    const pool = new BufferPool()
    const content = randomBytes(100_000)
    const server = http.createServer((_req, res) => {
      // Middleware that compresses does this.
      const { end: original } = res
      res.end = function (chunk) {
        setTimeout(() => original.call(this, chunk), 10)
        return this
      }
      const buffer = pooled(pool, content)
      end(pool, res, buffer)
      assert.equal(pool.owns(buffer), false)
    })
    const over = http.createServer((_req, res) => end(pool, res, pooled(pool, content)))
    await serving(server, async (port) => {
      const { body } = await plain.send({ port, method: 'GET' })
      assert.equal(hash(body), hash(content))
    })
    // A connection that passes on its chunks.
    const [ours, theirs] = pairOfDuplexes()
    over.emit('connection', theirs)
    ours.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
    await until(() => pool.stats().inUseCount === 0, 'it is back')
    const text = await bodyOf(ours)
    assert.equal(hash(text.subarray(-content.length)), hash(content))
    await allBack(pool)
  })

  test('releases what the response refuses by throwing', async () => {
    const pool = new BufferPool()
    const thrown = []
    for (const transport of [plain, http2s[1]]) {
      const server = transport.createServer((_req, res) => {
        const buffer = pool.allocUnsafe(1000)
        if (transport.isHttp2) {
          const { writeHead } = res
          res.writeHead = () => {
            res.writeHead = writeHead
            throw new Error('no head')
          }
        } else res.statusCode = 1000
        assert.throws(
          () => end(pool, res, buffer),
          (error) => thrown.push(error.code ?? error.message) > 0
        )
        assert.equal(pool.owns(buffer), false)
        res.statusCode = 500
        res.end('no')
      })
      await serving(server, async (port) => {
        const { body } = await transport.send({ port, method: 'GET' })
        assert.equal(String(body), 'no')
      })
    }
    assert.deepEqual(thrown, ['ERR_HTTP_INVALID_STATUS_CODE', 'no head'])
    await allBack(pool)
  })

  test('leaves the memory that Node has taken, though it throws', async () => {
    const pool = new BufferPool()
    let isReleased
    const server = http.createServer((req, res) => {
      const buffer = pooled(pool, Buffer.alloc(1000, 'x'))
      res.strictContentLength = true
      res.setHeader('content-length', 999)
      assert.throws(() => end(pool, res, buffer), { code: 'ERR_HTTP_CONTENT_LENGTH_MISMATCH' })
      isReleased = !pool.owns(buffer)
      pool.release(pool.allocUnsafe(1000).fill(ALIEN))
      res.strictContentLength = false
      if (req.url === '/sent') res.end()
      else res.destroy()
    })
    await serving(server, async (port) => {
      for (const path of ['/sent', '/destroyed']) {
        const socket = net.connect(port, HOST)
        socket.end(`GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`)
        const text = await bodyOf(socket)
        assert.equal(text.indexOf(ALIEN), -1)
        if (path === '/sent') assert.equal(isReleased, !text.includes('x'.repeat(1000)))
        await until(() => pool.stats().inUseCount === 0, 'it is back')
      }
    })
    await allBack(pool)
  })

  test('holds the block of a read under way when a listener of the end throws', async () => {
    const pool = new BufferPool({ maxBytes: 512 * MIB })
    const content = randomBytes(10 * MIB)
    const server = http.createServer((_req, res) => {
      res.on('prefinish', () => {
        throw new Error('a listener')
      })
      assert.throws(() => end(pool, res, pooled(pool, content)), { message: 'a listener' })
    })
    await serving(server, async (port) => {
      const stop = vandalize(pool, content.length)
      assert.equal(hash(await getSlowly(plain, port)), hash(content))
      stop()
    })
    await allBack(pool)
  })

  test('leaves alone what is the next lease by now', async () => {
    for (const { options } of MODES) {
      const pool = new BufferPool(options)
      const others = []
      const server = http.createServer((_req, res) => {
        const buffer = pooled(pool, Buffer.alloc(100, 'x'))
        end(pool, res, buffer)
        // This is wrong, but it must not cost another owner's block.
        pool.release(buffer)
        others.push(pool.allocUnsafe(100))
      })
      await serving(server, async (port) => {
        await plain.send({ port, method: 'GET' })
        await sleep(5)
      })
      assert.ok(pool.owns(others[0]))
      pool.release(others[0])
      await allBack(pool)
    }
  })

  test('refuses a Buffer that is on its way out, and takes its block again afterwards', async () => {
    const pool = new BufferPool({ detachOnRelease: false })
    const server = http.createServer((_req, res) => {
      const buffer = pooled(pool, Buffer.alloc(100, 'x'))
      end(pool, res, buffer)
      assert.throws(() => end(pool, res, buffer), {
        code: 'ERR_INVALID_ARG_VALUE',
        message:
          "The argument 'buffer' must not be on its way out already. Received Buffer of 100 bytes"
      })
    })
    await serving(server, async (port) => {
      for (let i = 0; i < 5; i++) {
        const { status, body } = await plain.send({ port, method: 'GET' })
        assert.equal(status, 200)
        assert.equal(String(body), 'x'.repeat(100))
      }
    })
    const { missCount } = await allBack(pool)
    assert.equal(missCount, 1)
  })

  test('sends and releases memory that was moved', { skip: !posts || !external }, async () => {
    const pool = new BufferPool()
    const server = http.createServer((_req, res) => {
      const { buffer } = pooled(pool, Buffer.alloc(64, 'x'))
      const moved = structuredClone(buffer, { transfer: [buffer] })
      end(pool, res, Buffer.from(moved))
    })
    await serving(server, async (port) => {
      const { body } = await plain.send({ port, method: 'GET' })
      assert.equal(String(body), 'x'.repeat(64))
      await until(() => pool.stats().inUseCount === 0, 'it is back')
    })
    await allBack(pool)
  })

  test('does not fail where the memory can not be released', { skip: !moves }, async () => {
    const pool = new BufferPool()
    const server = http.createServer((_req, res) => {
      const buffer = pooled(pool, Buffer.alloc(64, 'x'))
      end(pool, res, buffer)
      markAsUntransferable(buffer.buffer)
    })
    await serving(server, async (port) => {
      const { body } = await plain.send({ port, method: 'GET' })
      assert.equal(String(body), 'x'.repeat(64))
    })
    await until(async () => {
      globalThis.gc?.()
      await turn()
      return pool.stats().inUseCount === 0
    }, 'it is collected')
  })

  test('names the argument that is wrong, and does nothing then', async () => {
    const pool = new BufferPool()
    const others = new BufferPool({ name: 'others' })
    const written = []
    const res = new Writable({ write: (chunk) => written.push(chunk) })
    const buffer = pool.allocUnsafe(10)
    const released = pool.allocUnsafe(10)
    pool.release(released)
    for (const [args, name, code, message] of [
      [[{}, res, buffer], 'TypeError', 'ERR_INVALID_ARG_TYPE', 'The "pool" argument must be an'],
      [[pool, {}, buffer], 'TypeError', 'ERR_INVALID_ARG_TYPE', 'The "res" argument must be a st'],
      [[pool, res], 'TypeError', 'ERR_INVALID_ARG_TYPE', 'The "buffer" argument must be an'],
      [[pool, res, 'abc'], 'TypeError', 'ERR_INVALID_ARG_TYPE', 'The "buffer" argument must be an'],
      [[pool, res, buffer.buffer], 'TypeError', 'ERR_INVALID_ARG_TYPE', 'The "buffer" argument'],
      [
        [pool, res, Buffer.alloc(10)],
        'TypeError',
        'ERR_CISTERN_NOT_POOLED',
        'The "buffer" argument must be a view of a block that pool \'pool\' handed out'
      ],
      [
        [others, res, buffer],
        'TypeError',
        'ERR_CISTERN_NOT_POOLED',
        'The "buffer" argument must be a'
      ],
      [
        [pool, res, released],
        'Error',
        'ERR_CISTERN_ALREADY_RELEASED',
        'The "buffer" argument must be leased, and its block is back'
      ]
    ]) {
      assert.throws(
        () => end(.../** @type {[any, any, any]} */ (args)),
        (error) => {
          assert.equal(error.name, name)
          assert.equal(error.code, code)
          assert.ok(error.message.startsWith(message), error.message)
          return true
        }
      )
    }
    assert.equal(res.writableEnded, false)
    assert.deepEqual(written, [])
    assert.ok(pool.owns(buffer))
    pool.release(buffer)
    await allBack(pool)
  })
})

/** Returns two streams, each of which gives the very chunks that are written to the other. */
function pairOfDuplexes() {
  const make = () =>
    new Duplex({
      read() {},
      write(chunk, _encoding, done) {
        /** @type {any} */
        this.other.push(chunk)
        done()
      },
      final(done) {
        /** @type {any} */
        this.other.push(null)
        done()
      }
    })
  const [a, b] = [make(), make()]
  Object.assign(a, { other: b })
  Object.assign(b, { other: a })
  return [a, b]
}
