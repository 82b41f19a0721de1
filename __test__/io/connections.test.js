'use strict'

/**
 * Connections that end, or live on, and no event says so. Attacks on `cistern/io` have found these.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { Duplex } = require('node:stream')
const { after, describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { chunks, end, pumpFile, readBody } = require('../../lib/io')
const { MODES, eventually, until } = require('../support/helpers')
const { ALIEN, HOST, allBack, vandalize } = require('../support/io-servers')

const MIB = 1024 * 1024

/** The bytes that are sent. */
const OURS = 0x01

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-connections-'))
after(() => fs.rmSync(folder, { recursive: true }))

/** Makes a file of `size` bytes. */
function fileOf(size) {
  const file = path.join(folder, String(size))
  fs.writeFileSync(file, Buffer.alloc(size, OURS))
  return file
}

/** Starts a server until the test is over. Returns its port. */
async function listening(context, server) {
  server.listen(0, HOST)
  await once(server, 'listening')
  context.after(() => {
    server.closeAllConnections?.()
    server.close()
  })
  return server.address().port
}

/** Returns a client that sends a request, and counts the bytes that come. */
function clientOf(context, port, text) {
  const client = net.connect(port, HOST)
  client.on('error', () => {})
  client.write(text)
  context.after(() => client.destroy())
  return client
}

/** Counts bytes of ours, and of others that have no business there. */
function countOf(stream) {
  const count = { ours: 0, alien: 0 }
  stream.on('data', (data) => {
    for (const byte of data) {
      if (byte === OURS) count.ours++
      else if (byte === ALIEN) count.alien++
    }
  })
  return count
}

const GET = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n'

describe('end', () => {
  for (const { mode, options } of MODES.slice(0, 2)) {
    test(`on a corked response sends what it was given, ${mode}`, async (context) => {
      const pool = new BufferPool(options)
      const port = await listening(
        context,
        http.createServer((_req, res) => {
          res.write('begun')
          setImmediate(() => {
            res.cork()
            end(pool, res, pool.allocUnsafe(8 * MIB).fill(OURS))
          })
        })
      )
      context.after(vandalize(pool, 8 * MIB))
      const client = clientOf(context, port, GET)
      const count = countOf(client)
      await once(client, 'data')
      client.pause()
      await sleep(50)
      client.resume()
      await until(() => count.ours >= 8 * MIB, 'all has come')
      assert.equal(count.alien, 0)
      await allBack(pool)
    })

    test(`on a request that becomes a tunnel sends what it was given, ${mode}`, async (context) => {
      const pool = new BufferPool(options)
      let count
      const server = net.createServer((socket) => {
        socket.on('error', () => {})
        socket.once('data', () => {
          socket.pause()
          socket.write(
            'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n'
          )
          count = countOf(socket)
          socket.pause()
          setTimeout(() => socket.resume(), 50)
        })
      })
      const port = await listening(context, server)
      context.after(vandalize(pool, 8 * MIB))
      for (const headers of [{ connection: 'upgrade', upgrade: 'x' }, {}]) {
        count = undefined
        const req = http.request({ port, host: HOST, method: 'POST', headers, agent: false })
        req.setHeader('content-length', 8 * MIB)
        req.on('error', () => {})
        const tunnel = once(req, 'upgrade')
        end(pool, req, pool.allocUnsafe(8 * MIB).fill(OURS))
        const [, socket] = await tunnel
        socket.on('error', () => {})
        // The beginning came with the head.
        await until(() => count?.ours > 7 * MIB, 'nearly all has come')
        await sleep(20)
        assert.equal(count.alien, 0)
        socket.destroy()
      }
      await allBack(pool)
    })

    test(`gives an agent's own stream a copy, ${mode}`, async () => {
      const pool = new BufferPool(options)
      const kept = []
      class Trimmer extends Duplex {
        _read() {}
        _write(chunk, _encoding, callback) {
          kept.push(chunk)
          callback()
        }
        setTimeout() {}
        setNoDelay() {}
        setKeepAlive() {}
        ref() {}
        unref() {}
      }
      class OwnAgent extends http.Agent {
        addRequest(req) {
          process.nextTick(() => req.onSocket(new Trimmer()))
        }
      }
      const own = new http.Agent()
      own.addRequest = OwnAgent.prototype.addRequest
      for (const agent of [new OwnAgent(), own]) {
        kept.length = 0
        const headers = { 'content-length': 100_000 }
        const req = http.request({ host: 'x', method: 'POST', agent, headers })
        req.on('error', () => {})
        end(pool, req, pool.allocUnsafe(100_000).fill(OURS))
        await until(() => kept.length > 0 && pool.stats().inUseCount === 0, 'it is sent')
        pool.release(pool.allocUnsafe(100_000).fill(ALIEN))
        const body = Buffer.concat(kept).subarray(-100_000)
        assert.ok(body.equals(Buffer.alloc(100_000, OURS)))
        req.destroy()
      }
    })

    test(`gives a file stream of the user's own functions a copy, ${mode}`, async () => {
      const pool = new BufferPool(options)
      const kept = []
      const own = {
        ...fs,
        write: (_fd, buffer, _offset, length, _position, callback) => {
          kept.push(buffer)
          process.nextTick(callback, null, length, buffer)
        }
      }
      const stream = fs.createWriteStream(path.join(folder, 'own'), { fs: own })
      end(pool, stream, pool.allocUnsafe(100_000).fill(OURS))
      await once(stream, 'close')
      assert.equal(pool.stats().inUseCount, 0)
      pool.release(pool.allocUnsafe(100_000).fill(ALIEN))
      assert.ok(kept[0].equals(Buffer.alloc(100_000, OURS)))
    })
  }
})

describe('readBody', () => {
  for (const length of ['content-length: 2000', 'transfer-encoding: chunked']) {
    const part = (bytes) =>
      length.startsWith('t')
        ? `${bytes.toString(16)}\r\n${'x'.repeat(bytes)}\r\n`
        : 'x'.repeat(bytes)
    const HEAD = `POST / HTTP/1.1\r\nhost: x\r\n${length}\r\n\r\n`

    test(`is rejected when the client leaves after it was answered; ${length}`, async (context) => {
      for (const early of [true, false]) {
        const pool = new BufferPool()
        const body = withResolvers()
        const server = http.createServer((req, res) => {
          if (early) res.end('answered')
          body.resolve(readBody(pool, req))
          if (!early) setTimeout(() => res.end('answered'), 10)
        })
        const client = clientOf(context, await listening(context, server), HEAD + part(1000))
        await once(client, 'data')
        await sleep(10)
        client.destroy()
        await assert.rejects(body.promise, /Premature close|aborted/)
        await allBack(pool)
      }
    })

    test(`is whole when the answer does not wait for it; ${length}`, async (context) => {
      const pool = new BufferPool()
      const body = withResolvers()
      const server = http.createServer((req, res) => {
        body.resolve(readBody(pool, req))
        res.end('answered')
      })
      const client = clientOf(context, await listening(context, server), HEAD + part(1000))
      await once(client, 'data')
      client.write(part(1000) + (length.startsWith('t') ? '0\r\n\r\n' : ''))
      const lease = await body.promise
      assert.equal(lease.buffer.length, 2000)
      lease.release()
      // The connection stays open.
      client.write(GET)
      await once(client, 'data')
    })
  }

  test('does not take what someone else listens for', async (context) => {
    const pool = new BufferPool()
    const refused = withResolvers()
    const server = http.createServer((req, res) => {
      req.on('readable', () => req.read())
      refused.resolve(readBody(pool, req).finally(() => res.end()))
    })
    const port = await listening(context, server)
    clientOf(context, port, 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody')
    await assert.rejects(refused.promise, { code: 'ERR_CISTERN_BODY_USED' })
    await allBack(pool)
  })
})

describe('pumpFile', () => {
  test('is rejected by a queued response whose connection is closed already', async (context) => {
    const pool = new BufferPool()
    const file = fileOf(3 * MIB)
    const failed = withResolvers()
    const arrived = withResolvers()
    const server = http.createServer((req, res) => {
      if (req.url === '/1') return
      arrived.resolve()
      req.socket.once('close', () =>
        setTimeout(() => failed.resolve(pumpFile(pool, file, res)), 10)
      )
    })
    const port = await listening(context, server)
    const client = clientOf(context, port, GET.replace('/', '/1') + GET.replace('/', '/2'))
    await arrived.promise
    client.destroy()
    await assert.rejects(failed.promise, /Premature close|aborted/)
    await allBack(pool)
  })

  test('to a wrapped write that returns nothing goes on', async (context) => {
    const pool = new BufferPool()
    for (const size of [1000, MIB]) {
      const file = fileOf(size)
      const server = http.createServer((_req, res) => {
        const { write } = res
        res.write = (chunk, encoding) => {
          write.call(res, chunk, encoding)
        }
        pumpFile(pool, file, res).then(() => res.end())
      })
      const client = clientOf(context, await listening(context, server), GET)
      const count = countOf(client)
      await until(() => count.ours === size, 'all has come')
    }
    await allBack(pool)
  })

  test('to many queued responses listens to their connection once', async (context) => {
    const pool = new BufferPool()
    const file = fileOf(1000)
    const warnings = []
    const onWarning = (warning) => warnings.push(warning)
    process.on('warning', onWarning)
    context.after(() => process.off('warning', onWarning))
    const sockets = new Set()
    const server = http.createServer((req, res) => {
      sockets.add(req.socket)
      res.setHeader('content-length', 1000)
      pumpFile(pool, file, res).then(() => setTimeout(() => res.end(), 2))
    })
    const client = clientOf(context, await listening(context, server), GET.repeat(30))
    const count = countOf(client)
    await until(() => count.ours === 30_000, 'all have come')
    await allBack(pool)
    assert.deepEqual(warnings, [])
    const [socket] = sockets
    // Another handle, as each connection has it before its first request.
    const fresh = withResolvers()
    server.once('connection', (one) => fresh.resolve(one.listenerCount('close')))
    clientOf(context, server.address().port, '')
    await eventually(
      async () => socket.listenerCount('close') <= (await fresh.promise) + 1,
      'none stays'
    )
  })

  test("from another's handle whose read throws is rejected, and nothing stays leased", async () => {
    const pool = new BufferPool()
    const throws = () => {
      throw new Error('mine')
    }
    for (const read of [throws, () => 5]) {
      const handle = { fd: 999, read, datasync() {}, close() {} }
      const sink = fs.createWriteStream(path.join(folder, 'sink'))
      await assert.rejects(pumpFile(pool, handle, sink))
      await assert.rejects(chunks(pool, handle).next())
      sink.destroy()
      await allBack(pool)
    }
  })
})

describe('chunks', () => {
  for (const onExhausted of ['throw', 'unpooled']) {
    test(`read ahead is released for a waiter (onExhausted: '${onExhausted}')`, async () => {
      const pool = new BufferPool({ maxBytes: 2 * 65_536, onExhausted })
      const contents = Buffer.alloc(10 * 65_536 + 5, OURS)
      const file = fileOf(contents.length)
      const iterators = [1, 2].map(() => chunks(pool, file, { chunkSize: 65_536 }))
      const totals = [0, 0]
      for (let isOver = false; !isOver; ) {
        for (const [i, iterator] of iterators.entries()) {
          const { done, value } = await iterator.next()
          isOver = Boolean(done)
          if (!done) totals[i] += value.filter((byte) => byte === OURS).length
        }
      }
      assert.deepEqual(totals, [contents.length, contents.length])
      // The handle also belongs to its own user.
      let total = 0
      for await (const chunk of chunks(pool, file, { chunkSize: 65_536 })) {
        total += chunk.length
        pool.release(await pool.acquire(65_536))
      }
      assert.equal(total, contents.length)
      const { unpooledCount } = await allBack(pool)
      assert.equal(unpooledCount, 0)
    })
  }

  test('take nothing from V8 that they would throw away', async () => {
    const pool = new BufferPool({ maxBlockSize: 65_536 })
    const file = fileOf(4 * MIB)
    let count = 0
    for await (const chunk of chunks(pool, file, { chunkSize: MIB })) count += chunk.length
    assert.equal(count, 4 * MIB)
    // One for each chunk, and one in which the end is read.
    assert.ok(pool.stats().unpooledCount <= 5)
  })
})

/** Does the same as `Promise.withResolvers`, which Node has from 22 on. */
function withResolvers() {
  let resolve
  let reject
  const promise = new Promise((...functions) => {
    ;[resolve, reject] = functions
  })
  return { promise, resolve, reject }
}
