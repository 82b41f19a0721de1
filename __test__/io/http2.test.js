'use strict'

/**
 * HTTP/2 streams whose peers reset them without an error, or make no room: no memory stays leased,
 * and no loop spins.
 */

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const http2 = require('node:http2')
const os = require('node:os')
const path = require('node:path')
const { after, before, describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { chunks, end, pumpFile, readBody } = require('../../lib/io')
const { eventually, openFiles, until } = require('../support/helpers')
const { HOST, TRANSPORTS, allBack, cert, frames, serving } = require('../support/io-servers')

const KIB = 1024
const MIB = 1024 * KIB
const { NGHTTP2_NO_ERROR } = http2.constants
const [plain, secure] = TRANSPORTS.filter(({ isHttp2 }) => isHttp2)

/** More than a window holds; a session takes 10 MB in all. */
const LARGE = 256 * KIB

/** Streams of one connection. */
const STREAMS = Array.from({ length: 20 }, (_, i) => 1 + 2 * i)

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-http2-'))
const file = path.join(folder, 'file')
before(() => fs.writeFileSync(file, Buffer.alloc(MIB, 'f')))
after(() => fs.rmSync(folder, { recursive: true }))

/** Returns counters of pumps, by their outcomes. */
function countPumps() {
  return { begun: 0, ended: 0, codes: new Set() }
}

/** The body that a server answers with. */
const ANSWERS = {
  end: (pool, res) => end(pool, res, pool.allocUnsafe(LARGE).fill('x')),
  pumpFile: (pool, res, pumps) => {
    pumps.begun++
    pumpFile(pool, file, res).then(
      () => pumps.ended++,
      ({ code }) => {
        pumps.ended++
        pumps.codes.add(code)
      }
    )
  }
}

/** Ways in which a server treats the request before it answers. */
const READERS = {
  'reads nothing': (_pool, _req, answer) => answer(),
  'pauses the request': (_pool, req, answer) => {
    req.pause()
    answer()
  },
  'stops after the first chunk': (_pool, req, answer) => {
    req.once('data', () => {
      req.pause()
      answer()
    })
  },
  'refuses the body': (pool, req, answer) => {
    readBody(pool, req, { limit: 1 }).catch(answer)
  },
  'reads the body while it answers': (pool, req, answer) => {
    answer()
    readBody(pool, req).then((lease) => lease.release(), assert.ok)
  },
  'reads chunks while it answers': async (pool, req, answer) => {
    answer()
    try {
      for await (const chunk of chunks(pool, req)) assert.ok(chunk.length > 0)
    } catch (error) {
      assert.equal(error.code, 'ERR_STREAM_PREMATURE_CLOSE')
    }
  }
}

/** The part of its requests that a client sends. */
const REQUESTS = {
  'a whole one': (stream) => [
    frames.headers(stream),
    frames.frame(0, 1, stream, Buffer.alloc(100))
  ],
  'half of one': (stream) => [frames.headers(stream), frames.data(stream, Buffer.alloc(100))]
}

/**
 * Returns a server that answers as one of `ANSWERS`, after one of `READERS`.
 *
 * @param {(typeof TRANSPORTS)[number]} transport
 * @param {'request' | 'stream'} face
 * @param {(req: any, answer: () => void) => void} read
 * @param {(res: any) => void} respond
 */
function answering(transport, face, read, respond) {
  const server = transport.createServer()
  if (face === 'request') {
    server.on(face, (req, res) => read(req, () => respond(res)))
  } else {
    server.on(face, (stream) => {
      stream.on('error', () => {})
      stream.respond()
      read(stream, () => respond(stream))
    })
  }
  return server
}

/** Fills a raw client's window for each stream, and resets all of them, without an error. */
async function resetAll(socket, request, answered) {
  socket.on('error', () => {})
  socket.resume()
  socket.write(frames.opening())
  socket.write(Buffer.concat(STREAMS.flatMap(request)))
  await until(answered, 'all are answered')
  // Until their windows are full.
  await until(() => socket.bytesRead >= STREAMS.length * 65_535, 'all windows are full')
  socket.write(Buffer.concat(STREAMS.map((stream) => frames.reset(stream, NGHTTP2_NO_ERROR))))
}

describe('A stream that is reset without an error gives back what it was lent', () => {
  for (const [answerName, answer] of Object.entries(ANSWERS)) {
    for (const transport of answerName === 'end' ? [secure] : [plain, secure]) {
      for (const face of ['request', 'stream']) {
        for (const [readerName, reader] of Object.entries(READERS)) {
          const name = `by ${answerName}, ${transport.name}'s '${face}', whose server ${readerName}`
          test(name, async () => {
            for (const request of Object.values(REQUESTS)) {
              const pool = new BufferPool()
              const pumps = countPumps()
              let answered = 0
              const server = answering(
                transport,
                face,
                (req, respond) => reader(pool, req, respond),
                (res) => {
                  answered++
                  answer(pool, res, pumps)
                }
              )
              await serving(server, async (port) => {
                const socket = transport.connect(port)
                await resetAll(socket, request, () => answered === STREAMS.length)
                // The session lives on.
                await until(() => pool.stats().inUseCount === 0, 'all is back')
                await until(() => pumps.ended === pumps.begun, 'all pumps are settled')
                await until(() => openFiles(folder).length === 0, 'all files are closed')
                assert.equal(socket.destroyed, false)
              })
              if (pumps.begun > 0) {
                assert.deepEqual([...pumps.codes], ['ERR_STREAM_PREMATURE_CLOSE'])
              }
              await allBack(pool)
            }
          })
        }
      }
    }
  }

  test("that a client of Node's own closes", async () => {
    const pool = new BufferPool()
    const server = answering(
      secure,
      'request',
      (_req, answer) => answer(),
      (res) => {
        end(pool, res, pool.allocUnsafe(LARGE))
      }
    )
    await serving(server, async (port) => {
      const session = http2.connect(`https://${HOST}:${port}`, { ca: cert })
      const streams = STREAMS.map(() =>
        session.request({ ':method': 'POST' }, { endStream: false })
      )
      await Promise.all(streams.map((stream) => once(stream, 'response')))
      assert.equal(pool.stats().inUseCount, STREAMS.length)
      for (const stream of streams) stream.close(NGHTTP2_NO_ERROR)
      await until(() => pool.stats().inUseCount === 0, 'all is back')
      session.destroy()
    })
    await allBack(pool)
  })

  test('that its own server closes while a file is pumped', async () => {
    const pool = new BufferPool()
    /** @type {Promise<unknown>[]} */
    const pumps = []
    const server = answering(
      secure,
      'stream',
      (_req, answer) => answer(),
      (stream) => {
        pumps.push(
          assert.rejects(pumpFile(pool, file, stream), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
        )
        setTimeout(() => stream.close(NGHTTP2_NO_ERROR), 20)
      }
    )
    await serving(server, async (port) => {
      const socket = secure.connect(port)
      socket.resume()
      socket.write(frames.opening())
      for (const stream of STREAMS) socket.write(frames.headers(stream))
      await until(() => pumps.length === STREAMS.length, 'all are answered')
      await Promise.all(pumps)
      await until(() => openFiles(folder).length === 0, 'all files are closed')
      await until(() => pool.stats().inUseCount === 0, 'all is back')
      assert.equal(socket.destroyed, false)
    })
    await allBack(pool)
  })
})

describe('A session that ends gives back what its streams were lent', () => {
  /** A client in a process of its own, which never reads. */
  const CLIENT = `
    const session = require('node:http2').connect(process.argv[1], { rejectUnauthorized: false })
    for (let i = 0; i < 20; i++) session.request({ ':method': 'POST' }, { endStream: false }).pause()
  `
  const ends = {
    'the server destroys it': ({ sessions }) => sessions[0].destroy(),
    'the server destroys it with an error': ({ sessions }) =>
      sessions[0].destroy(new Error('mine')),
    'the client says goodbye, and goes': ({ client }) => client.kill(),
    'the client is killed': ({ client }) => client.kill('SIGKILL'),
    'the server says that it has failed': ({ sessions, sockets }) => {
      sessions[0].goaway(http2.constants.NGHTTP2_INTERNAL_ERROR)
      sockets[0].destroy()
    },
    'the server closes, and then its sockets': ({ server, sessions }) => {
      server.close()
      for (const session of sessions) session.close()
      setTimeout(() => {
        for (const session of sessions) session.destroy()
      }, 20)
    }
  }
  for (const [name, finish] of Object.entries(ends)) {
    for (const [answerName, answer] of Object.entries(ANSWERS)) {
      test(`${name}: by ${answerName}`, async () => {
        const pool = new BufferPool()
        const pumps = countPumps()
        const sessions = []
        const sockets = []
        let answered = 0
        const server = answering(
          secure,
          'request',
          (_req, respond) => respond(),
          (res) => {
            answered++
            answer(pool, res, pumps)
          }
        )
        server.on('secureConnection', (socket) => sockets.push(socket))
        server.on('session', (session) => {
          session.on('error', () => {})
          sessions.push(session)
        })
        await serving(server, async (port) => {
          const client = spawn(process.execPath, ['-e', CLIENT, `https://${HOST}:${port}`], {
            stdio: 'ignore'
          })
          await until(() => answered === STREAMS.length, 'all are answered')
          await until(() => pool.stats().inUseCount >= STREAMS.length, 'all have their memory')
          finish({ server, sessions, sockets, client })
          await until(() => pool.stats().inUseCount === 0, 'all is back')
          await until(() => pumps.ended === pumps.begun, 'all pumps are settled')
          await until(() => openFiles(folder).length === 0, 'all files are closed')
          client.kill('SIGKILL')
        })
        await allBack(pool)
      })
    }
  }
})

test('An upload that a server resets when it has answered ends, and the answer can be read', async () => {
  for (const transport of [plain, secure]) {
    const pool = new BufferPool()
    const server = transport.createServer()
    server.on('stream', (stream) => {
      stream.on('error', () => {})
      stream.pause()
      stream.respond()
      stream.end('answer')
      stream.once('finish', () => setTimeout(() => stream.close(NGHTTP2_NO_ERROR), 20))
    })
    await serving(server, async (port) => {
      const session = http2.connect(`${transport.scheme}://${HOST}:${port}`, { ca: cert })
      await once(session, 'connect')
      const req = session.request({ ':method': 'POST' }, { endStream: false })
      await assert.rejects(pumpFile(pool, file, req), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
      await until(() => openFiles(folder).length === 0, 'the file is closed')
      const answer = []
      req.on('data', (chunk) => answer.push(chunk))
      await once(req, 'end')
      assert.equal(Buffer.concat(answer).toString(), 'answer')
      await until(() => pool.stats().inUseCount === 0, 'all is back')
      session.destroy()
    })
    await allBack(pool)
  }
})

describe('chunks', () => {
  for (const transport of [plain, secure]) {
    test(`rejects a body whose stream was reset, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const outcomes = []
      let begun = 0
      const server = transport.createServer(async (req, res) => {
        // Then no 'aborted' comes.
        if (req.url === '/answered') res.end('early')
        try {
          let length = 0
          for await (const chunk of chunks(pool, req)) {
            if (length === 0) begun++
            length += chunk.length
          }
          outcomes.push(length)
        } catch ({ code }) {
          outcomes.push(code)
        }
      })
      await serving(server, async (port) => {
        const socket = transport.connect(port)
        socket.on('error', () => {})
        socket.resume()
        socket.write(frames.opening())
        let stream = -1
        for (const path of ['/', '/answered']) {
          for (const code of [NGHTTP2_NO_ERROR, http2.constants.NGHTTP2_CANCEL]) {
            const before = outcomes.length
            stream += 2
            socket.write(frames.headers(stream, { path }))
            socket.write(frames.data(stream, Buffer.alloc(1000)))
            await until(() => begun === before + 1, 'its beginning is read')
            socket.write(frames.reset(stream, code))
            await until(() => outcomes.length > before, 'it has ended')
            assert.equal(outcomes.at(-1), 'ERR_STREAM_PREMATURE_CLOSE', `${path} ${code}`)
          }
        }
        stream += 2
        socket.write(frames.headers(stream, { path: '/answered' }))
        socket.write(frames.frame(0, 1, stream, Buffer.alloc(1000)))
        await until(() => outcomes.length === 5, 'a whole one is read')
        assert.equal(outcomes[4], 1000)
      })
      await allBack(pool)
    })
  }
})

test('An iterator of chunks that is dropped listens to the http2 stream no more', async () => {
  const pool = new BufferPool()
  const take = async (body) => {
    const { value } = await chunks(pool, body)[Symbol.asyncIterator]().next()
    assert.equal(value.length, 1000)
    pool.release(value)
  }
  const server = plain.createServer()
  let taken = 0
  server.on('stream', async (stream) => {
    stream.on('error', () => {})
    const ofNode = stream.listenerCount('newListener')
    const listening = () => stream.listenerCount('newListener') - ofNode
    const taking = take(stream)
    await until(() => listening() === 1, 'it is read')
    await taking
    await eventually(() => listening() === 0, 'nobody listens')
    taken++
  })
  await serving(server, async (port) => {
    const socket = plain.connect(port)
    socket.resume()
    socket.write(frames.opening())
    socket.write(frames.headers(1))
    socket.write(frames.data(1, Buffer.alloc(1000)))
    await until(() => taken === 1, 'the iterator is collected')
    socket.destroy()
  })
  await allBack(pool)
})

describe('readBody', () => {
  for (const transport of [plain, secure]) {
    test(`takes a body that was whole before its stream was reset, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const lengths = []
      const server = transport.createServer(async (req, res) => {
        res.end('early')
        const lease = await readBody(pool, req)
        lengths.push(lease.buffer.length)
        lease.release()
      })
      await serving(server, async (port) => {
        const socket = transport.connect(port)
        socket.resume()
        socket.write(frames.opening())
        for (const [i, stream] of STREAMS.entries()) {
          const body = Buffer.alloc(1 + 500 * i)
          socket.write(
            Buffer.concat([
              frames.headers(stream),
              frames.data(stream, body),
              frames.frame(0, 1, stream, body),
              frames.reset(stream, NGHTTP2_NO_ERROR)
            ])
          )
          await until(() => lengths.length === i + 1, 'it is read')
          assert.equal(lengths[i], 2 * body.length)
        }
      })
      await allBack(pool)
    })

    test(`rejects a response that was cut off without an error, over ${transport.name}`, async () => {
      const pool = new BufferPool()
      const server = transport.createServer()
      server.on('stream', (stream) => {
        stream.on('error', () => {})
        stream.respond()
        // Most of it must wait for room in the window.
        stream.write(Buffer.alloc(8 * MIB))
        setImmediate(() => stream.close(NGHTTP2_NO_ERROR))
      })
      await serving(server, async (port) => {
        const session = http2.connect(`${transport.scheme}://${HOST}:${port}`, { ca: cert })
        const req = session.request()
        await assert.rejects(readBody(pool, req), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
        session.destroy()
      })
      await allBack(pool)
    })
  }
})

describe('A refused body', () => {
  /** Frames that a client got, of one stream. */
  const framesOf = (chunks, id) =>
    [...frames.parse(Buffer.concat(chunks))].filter(({ stream }) => stream === id)

  test('is reset when its answer is out, and not before: also where its client makes room late', async () => {
    for (const transport of [plain, secure]) {
      const pool = new BufferPool()
      let finished = 0
      const server = transport.createServer(async (req, res) => {
        await assert.rejects(readBody(pool, req, { limit: 1 }), { statusCode: 413 })
        res.write(Buffer.alloc(100))
        req.stream.once('finish', () => finished++)
        // Its window is full, so that even the end has to wait.
        setTimeout(() => res.end(), 50)
      })
      await serving(server, async (port) => {
        const socket = transport.connect(port)
        const received = []
        socket.on('data', (chunk) => received.push(chunk))
        socket.write(frames.opening(100))
        socket.write(frames.headers(1))
        socket.write(frames.data(1, Buffer.alloc(100)))
        await until(() => finished === 1, 'it is answered')
        await sleep(100)
        const before = framesOf(received, 1)
        assert.deepEqual(
          before.map(({ type, flags }) => [type, flags & 1]),
          [
            [1, 0],
            [0, 0]
          ]
        )
        socket.write(frames.frame(8, 0, 1, Buffer.from([0, 0, 1, 0])))
        await until(() => framesOf(received, 1).some(({ type }) => type === 3), 'it is reset')
        assert.deepEqual(
          framesOf(received, 1)
            .slice(2)
            .map(({ type, flags }) => [type, flags & 1]),
          [
            [0, 1],
            [3, 0]
          ]
        )
      })
      await allBack(pool)
    }
  })

  test('is looked after by one timer a session, ever more seldom', async () => {
    const pool = new BufferPool()
    const refused = []
    let looks = 0
    const server = plain.createServer(async (req, res) => {
      await assert.rejects(readBody(pool, req, { limit: 1 }), { statusCode: 413 })
      const { stream } = req
      // An own property would be seen, and not only counted.
      const prototype = Object.getPrototypeOf(stream)
      const { state } = stream
      Object.defineProperty(stream, 'state', {
        get() {
          looks++
          const { get } = findGetter(prototype, 'state')
          return get.call(stream) ?? state
        }
      })
      stream.once('finish', () => refused.push(stream))
      res.writeHead(413).end()
    })
    await serving(server, async (port) => {
      const socket = plain.connect(port)
      socket.resume()
      // No window: not even the end of an answer fits.
      socket.write(frames.opening(0))
      const streams = Array.from({ length: 500 }, (_, i) => 1 + 2 * i)
      for (const stream of streams) {
        socket.write(frames.headers(stream))
        socket.write(frames.data(stream, Buffer.alloc(20)))
      }
      await until(() => refused.length === streams.length, 'all are refused')
      await sleep(1000)
      const first = looks
      await sleep(1000)
      assert.ok(looks - first <= 3 * streams.length, `${looks - first} looks in a second`)
      // The reset must not go on forever.
      await until(() => refused.every(({ destroyed }) => destroyed), 'all are closed')
      const last = looks
      await sleep(1500)
      assert.equal(looks, last)
      assert.equal(socket.destroyed, false)
    })
    await allBack(pool)
  })
})

/** @returns {any} */
function findGetter(prototype, name) {
  const own = Object.getOwnPropertyDescriptor(prototype, name)
  return own ?? findGetter(Object.getPrototypeOf(prototype), name)
}
