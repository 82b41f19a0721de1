'use strict'

/**
 * `readBody` with clients that misbehave, at the ceiling, in a storm of clients, and in frameworks.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const http = require('node:http')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { end, readBody } = require('../../lib/io')
const { until } = require('../support/helpers')
const {
  TRANSPORTS,
  allBack,
  frames,
  hash,
  pieces,
  randomBytes,
  serving
} = require('../support/io-servers')
const { MIB, hashing, head, onlyOutcome, plain, say } = require('../support/read-body')

/** The clients of a storm, and what each does to a server that echoes. */
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
    // Node 20 forgets such a connection, and reports its end to nobody.
    if (process.version.startsWith('v20.')) return
    const socket = await open(frames.opening(), frames.headers(1, { path: '/none' }))
    socket.write(frames.data(1, body.subarray(0, 3000)))
    socket.end(body)
  }
}

describe('readBody, from clients that misbehave', () => {
  /**
   * Ways in which a client breaks its connection in the middle of its body, each with the outcome.
   */
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

describe("readBody at the pool's ceiling", () => {
  test('waits in the queue for memory, and the clients with it', async () => {
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

  test('leaves the queue when the client leaves', async () => {
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
      // The waiter has left the queue: none precedes this one.
      pool.release(others)
      pool.release(await pool.acquire(MIB))
    })
    await allBack(pool)
  })

  test('never deadlocks: a reader that has a block waits for no other', async () => {
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
