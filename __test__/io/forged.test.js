'use strict'

/**
 * Events that only Node should emit, emitted by other code: anyone can emit an event, call a
 * listener, or throw in a listener for new listeners. None of that releases a block that is still
 * read or written.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const path = require('node:path')
const { PassThrough } = require('node:stream')
const { describe } = require('node:test')
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises')
const tls = require('node:tls')
const { end, onread, pumpFile } = require('../../lib/io')
const { eventually, until } = require('../support/helpers')
const { ALIEN, HOST, TRANSPORTS, allBack, cert, hash, serving } = require('../support/io-servers')
const {
  CONTENT,
  MIB,
  assertOurs,
  file,
  folder,
  inBothModes,
  plain,
  pooled,
  receive,
  secure,
  takeOver
} = require('../support/forgery')

/** Emits the events, and also calls cistern's own listeners. */
function forge(emitter, ...events) {
  for (const event of events) {
    const listeners = emitter.rawListeners(event)
    if (toleratesForgery(emitter, event)) {
      try {
        emitter.emit(event)
      } catch {
        // Some of Node's own listeners do not expect that.
      }
    }
    for (const listener of listeners)
      if (/^(look|onFinish|onClose|onNewListener|#.*)$/.test(listener.name)) listener.call(emitter)
  }
}

/**
 * Returns true if Node survives an event that other code emits. Node aborts if bytes come for an
 * encrypted socket that has emitted 'close', and its server trusts the events of its responses and
 * connections.
 */
function toleratesForgery(emitter, event) {
  if (emitter instanceof tls.TLSSocket || emitter.server) return false
  return !(emitter instanceof http.ServerResponse && event === 'finish')
}

describe('onread', () => {
  for (const protocol of [plain, secure]) {
    const sending = (body) =>
      protocol.createServer((socket) => {
        socket.on('error', () => {})
        socket.end(body)
      })

    inBothModes(
      `reads on into its own block after a forged close, over ${protocol.name}`,
      async (pool, context) => {
        await serving(sending(CONTENT), async (port) => {
          const chunks = []
          let owners
          const option = onread(pool, { size: 50_000 }, function (length, buffer) {
            chunks.push(Buffer.from(buffer.subarray(0, length)))
            if (chunks.length > 2) return
            forge(this, 'close')
            if (owners === undefined) owners = takeOver(pool, 50_000, context)
          })
          const socket = protocol.connect(port, { onread: option })
          await until(() => socket.destroyed, 'it has all')
          await turn()
          owners.areWhole()
          owners.stop()
          assert.equal(hash(Buffer.concat(chunks)), hash(CONTENT))
        })
        await allBack(pool)
      }
    )

    inBothModes(
      `releases at its end though close was emitted before, over ${protocol.name}`,
      async (pool) => {
        await serving(sending(CONTENT.subarray(0, MIB)), async (port) => {
          const option = onread(pool, {}, function () {
            forge(this, 'close')
            assert.equal(pool.stats().inUseCount, 1)
            this.destroy()
            forge(this, 'close')
          })
          const socket = protocol.connect(port, { onread: option })
          await until(() => socket.destroyed, 'it is destroyed')
          await until(() => pool.stats().inUseCount === 0, 'it is back')
        })
        await allBack(pool)
      }
    )
  }

  inBothModes(
    'whose function is called by another gives one block to one socket',
    async (pool, context) => {
      let isFirst = true
      const server = net.createServer((socket) => {
        socket.on('error', () => {})
        // The first sends nothing.
        if (!isFirst) socket.end(CONTENT)
        isFirst = false
      })
      await serving(server, async (port) => {
        const option = onread(pool, { size: 50_000 }, () => {})
        const silent = plain.connect(port, { onread: option })
        await once(silent, 'connect')
        // Forged: only Node should call this.
        option.callback.call(silent, 1, option.buffer())
        const reading = plain.connect(port, { onread: option })
        await once(reading, 'connect')
        silent.destroy()
        await once(silent, 'close')
        const owners = takeOver(pool, 50_000, context)
        await until(() => reading.destroyed, 'it has all')
        owners.areWhole()
        owners.stop()
      })
      await eventually(() => pool.stats().inUseCount === 0, 'all is collected')
    }
  )

  inBothModes(
    'on a socket that connects again at once has a block for each connection',
    async (pool, context) => {
      const server = net.createServer((socket) => {
        socket.on('error', () => {})
        socket.end(CONTENT)
      })
      await serving(server, async (port) => {
        let calls = 0
        let owners
        const chunks = []
        const option = onread(pool, { size: 50_000 }, function (length, buffer) {
          calls++
          if (calls === 1) {
            this.destroy()
            process.nextTick(() => this.connect(port, HOST))
            return
          }
          owners ??= takeOver(pool, 50_000, context)
          chunks.push(Buffer.from(buffer.subarray(0, length)))
        })
        const socket = plain.connect(port, { onread: option })
        await until(() => chunks.length > 0 && socket.destroyed, 'it has all, the second time')
        await turn()
        owners.areWhole()
        owners.stop()
        assert.equal(hash(Buffer.concat(chunks)), hash(CONTENT))
      })
      await eventually(() => pool.stats().inUseCount === 0, 'all is back')
    }
  )

  inBothModes('is collected where nobody listens for its end any more', async (pool) => {
    const server = net.createServer((socket) => {
      socket.on('error', () => {})
      socket.end(CONTENT.subarray(0, 1000))
    })
    await serving(server, async (port) => {
      const option = onread(pool, { size: 5000 }, function () {
        this.removeAllListeners('close')
      })
      let socket = plain.connect(port, { onread: option })
      await until(() => socket.destroyed, 'it has all')
      socket = undefined
      await eventually(() => pool.stats().inUseCount === 0, 'it is collected')
    })
  })

  inBothModes('destroys a socket that refuses listeners, and holds nothing', async (pool) => {
    const server = net.createServer((socket) => {
      socket.on('error', () => {})
      socket.end(CONTENT)
    })
    await serving(server, async (port) => {
      const option = onread(pool, { size: 5000 }, () => assert.fail('there is no block for it'))
      const socket = plain.connect(port, { onread: option })
      socket.on('newListener', (event) => {
        if (event === 'close') throw new Error('no listener')
      })
      const [error] = await once(socket, 'error')
      assert.equal(error.message, 'no listener')
    })
    await allBack(pool)
  })
})

describe('end', () => {
  for (const transport of TRANSPORTS.filter(({ isHttp2 }) => !isHttp2)) {
    for (const [name, attack] of Object.entries({
      'a response that finish and close are emitted on': (res) => forge(res, 'close', 'finish'),
      'a response whose connection close is emitted on': (_res, { socket }) =>
        forge(socket, 'close', 'finish'),
      'a response whose connection is destroyed and emits close': (res, { socket }) => {
        socket.destroy()
        forge(socket, 'close')
        forge(res, 'close')
      }
    })) {
      inBothModes(
        `to ${name} sends its own bytes alone, over ${transport.name}`,
        async (pool, context) => {
          const server = transport.createServer((req, res) => {
            end(pool, res, pooled(pool))
            attack(res, req)
            takeOver(pool, CONTENT.length, context)
          })
          await serving(server, async (port) => {
            const module = transport.name === 'http' ? http : require('node:https')
            const req = module.request({ host: HOST, port, ca: cert, agent: false }).end()
            const res = await once(req, 'response').then(
              ([res]) => res,
              () => undefined
            )
            if (res) assertOurs(await receive(res))
          })
          await until(() => !isOut(pool), 'it is back')
        }
      )
    }
  }

  for (const keepAlive of [false, true]) {
    inBothModes(
      `to a client's request that finish is emitted on sends its own bytes (keepAlive: ${keepAlive})`,
      async (pool, context) => {
        const agent = new http.Agent({ keepAlive })
        context.after(() => agent.destroy())
        const bodies = []
        const server = http.createServer(async (req, res) => {
          bodies.push(await receive(req))
          res.end('done')
        })
        await serving(server, async (port) => {
          for (let i = 0; i < 2; i++) {
            const req = http.request({ host: HOST, port, method: 'POST', agent })
            const forging = () => forge(req, 'finish', 'close')
            end(pool, req, pooled(pool))
            forging()
            const owners = takeOver(pool, CONTENT.length, context)
            req.once('socket', forging)
            const [res] = await once(req, 'response')
            res.resume()
            await once(res, 'end')
            owners.stop()
            assertOurs(bodies[i], true)
          }
        })
        await until(() => pool.stats().inUseCount === 0, 'all is back')
      }
    )

    inBothModes(
      `to a client's request whose callbacks are called sends its own bytes (keepAlive: ${keepAlive})`,
      async (pool, context) => {
        const agent = new http.Agent({ keepAlive })
        context.after(() => agent.destroy())
        const bodies = []
        const server = http.createServer(async (req, res) => {
          bodies.push(await receive(req))
          res.end('done')
        })
        await serving(server, async (port) => {
          const req = http.request({ host: HOST, port, method: 'POST', agent })
          end(pool, req, pooled(pool))
          const callbacks = req.outputData.map(({ callback }) => callback).filter(Boolean)
          for (const callback of callbacks) callback()
          takeOver(pool, CONTENT.length, context)
          await once(req, 'socket')
          for (const callback of callbacks) callback()
          await once(req, 'response')
          assertOurs(bodies[0], true)
        })
      }
    )
  }

  inBothModes(
    'to a request that is destroyed before it has a connection releases, and sends nothing',
    async (pool) => {
      let requests = 0
      const server = http.createServer((_req, res) => {
        requests++
        res.end()
      })
      await serving(server, async (port) => {
        const req = http.request({ host: HOST, port, method: 'POST' })
        req.on('error', () => {})
        end(pool, req, pooled(pool))
        req.destroy()
        await new Promise((resolve) => req.once('close', resolve))
        assert.equal(pool.stats().inUseCount, 0)
        assert.equal(requests, 0)
      })
      await allBack(pool)
    }
  )

  for (const protocol of [plain, secure]) {
    for (const when of ['connecting', 'connected']) {
      inBothModes(
        `to a ${when} socket that close is emitted on sends its own bytes, over ${protocol.name}`,
        async (pool, context) => {
          const received = []
          const server = protocol.createServer(async (socket) =>
            received.push(await receive(socket))
          )
          await serving(server, async (port) => {
            const socket = protocol.connect(port)
            socket.on('error', () => {})
            if (when === 'connected') {
              await once(socket, protocol === plain ? 'connect' : 'secureConnect')
            }
            end(pool, socket, pooled(pool))
            forge(socket, 'close', 'finish', 'drain')
            const owners = takeOver(pool, CONTENT.length, context)
            if (when === 'connecting') {
              // Node has destroyed the socket, and has left its pending bytes for the next
              // connection.
              await until(() => socket.destroyed, 'it is destroyed')
              if (protocol === plain) socket.connect(port, HOST)
              await sleep(50)
              socket.destroy()
            }
            await until(() => socket.destroyed, 'it is closed')
            if (when === 'connected') await until(() => received.length > 0, 'all has come')
            await sleep(20)
            for (const bytes of received) {
              assertOurs(bytes, when === 'connected')
            }
            owners.stop()
          })
          await eventually(() => pool.stats().inUseCount === 0, 'all is back, or collected')
        }
      )
    }
  }

  for (const event of ['connect', 'close']) {
    inBothModes(
      `to a socket with a listener that throws at '${event}' keeps what Node has taken`,
      async (pool, context) => {
        const received = []
        const server = net.createServer(async (socket) => received.push(await receive(socket)))
        await serving(server, async (port) => {
          const socket = net.connect(port, HOST)
          socket.on('error', () => {})
          socket.once('newListener', function refuse(name) {
            if (name !== event) return socket.once('newListener', refuse)
            throw new Error('a listener')
          })
          assert.throws(() => end(pool, socket, pooled(pool)), { message: 'a listener' })
          const owners = takeOver(pool, CONTENT.length, context)
          await once(socket, 'connect')
          await sleep(20)
          socket.destroySoon()
          await sleep(50)
          socket.destroy()
          await until(() => received.length > 0, 'what is sent has come')
          assertOurs(received[0])
          owners.stop()
        })
        await eventually(() => pool.stats().inUseCount === 0, 'all is back, or collected')
      }
    )
  }

  inBothModes('to a file that close is emitted on writes its own bytes', async (pool, context) => {
    const name = path.join(folder, 'out')
    const writable = fs.createWriteStream(name)
    end(pool, writable, pooled(pool))
    takeOver(pool, CONTENT.length, context)
    forge(writable, 'close', 'finish')
    await once(writable, 'open')
    forge(writable, 'close', 'finish')
    await until(() => writable.closed, 'it is closed')
    assertOurs(fs.readFileSync(name), true)
  })

  inBothModes('to a response that takes nothing any more gives it nothing', async (pool) => {
    const server = http.createServer((_req, res) => {
      // It claims to have ended, and has not.
      Object.defineProperty(res, 'writableEnded', { value: true })
      Object.defineProperty(res, 'destroyed', { value: true })
      const buffer = pooled(pool, 1000)
      end(pool, res, buffer)
      pool.allocUnsafe(1000).fill(ALIEN)
    })
    await serving(server, async (port) => {
      const socket = net.connect(port, HOST)
      socket.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
      setTimeout(() => socket.destroy(), 50)
      assert.equal((await receive(socket)).indexOf(ALIEN), -1)
    })
  })
})

describe('An http2 stream over TLS', () => {
  const transport = TRANSPORTS.find(({ scheme }) => scheme === 'https')

  for (const face of ['request', 'stream']) {
    for (const [name, send] of Object.entries({
      end: async (pool, writable) => {
        end(pool, writable, pooled(pool))
        await new Promise((resolve) => writable.once('finish', resolve))
      },
      pumpFile: (pool, writable) =>
        pumpFile(pool, file, writable, { chunkSize: MIB }).then(
          () => writable.end(),
          () => {}
        )
    })) {
      inBothModes(
        `that events are emitted on sends its own bytes alone: ${name}, '${face}'`,
        async (pool, context) => {
          const server = transport.createServer()
          server.on(face, async (...args) => {
            const writable = args.find((arg) => 'write' in arg)
            writable.on('error', () => {})
            const stream = writable.stream ?? writable
            let isOver = false
            send(pool, writable).then(() => {
              isOver = true
            })
            const size = name === 'end' ? CONTENT.length : MIB
            for (let i = 0; i < 3; i++) {
              await until(() => isOver || stream.writableLength > 0 || stream.destroyed, 'it sends')
              forge(writable, 'finish', 'drain', 'close')
              forge(stream, 'finish', 'drain', 'close', 'ready', 'aborted')
              stream.emit('newListener', 'end', () => {})
              if (i === 0) takeOver(pool, size, context)
              await turn()
            }
            // By now Node's own state is inconsistent: the response may never end.
            await sleep(100)
            stream.session?.destroy()
          })
          await serving(server, async (port) => {
            const http2 = require('node:http2')
            const session = http2.connect(`https://${HOST}:${port}`, { ca: cert })
            session.on('error', () => {})
            const req = session.request({ ':path': '/' })
            const bytes = await receive(req)
            session.destroy()
            assertOurs(bytes)
          })
        }
      )
    }
  }
})

for (const face of ['request', 'stream']) {
  inBothModes(
    `A listener for new listeners that throws has the Buffer released, and its block goes out again, '${face}'`,
    async (pool) => {
      const transport = TRANSPORTS.find(({ scheme }) => scheme === 'https')
      const server = transport.createServer()
      server.on(face, (...args) => {
        const writable = args.find((arg) => 'write' in arg)
        const stream = writable.stream ?? writable
        const refuse = (event) => {
          if (event === 'newListener') throw new Error('a listener')
        }
        stream.on('newListener', refuse)
        assert.throws(() => end(pool, writable, pooled(pool)), { message: 'a listener' })
        assert.equal(pool.stats().inUseCount, 0)
        stream.removeListener('newListener', refuse)
        end(pool, writable, pooled(pool))
      })
      await serving(server, async (port) => {
        const { body } = await transport.send({ port, method: 'GET' })
        assertOurs(body, true)
      })
      await allBack(pool)
    }
  )
}

inBothModes(
  'A response that throws when it is looked at has the Buffer released, and its block goes out again',
  async (pool) => {
    for (const isReleased of [false, true]) {
      const sink = new PassThrough()
      const buffer = pooled(pool, 100)
      Object.defineProperty(sink, 'writableCorked', {
        configurable: true,
        get() {
          if (!isReleased) throw new Error('a getter')
          pool.release(buffer)
          return 0
        }
      })
      assert.throws(
        () => end(pool, sink, buffer),
        isReleased ? { code: 'ERR_CISTERN_ALREADY_RELEASED' } : { message: 'a getter' }
      )
      assert.equal(pool.stats().inUseCount, 0)
      delete sink.writableCorked
      end(pool, sink, pooled(pool, 100))
      assert.deepEqual(await sink.toArray(), [CONTENT.subarray(0, 100)])
    }
    await allBack(pool)
  }
)

describe('pumpFile', () => {
  for (const protocol of [plain, secure]) {
    inBothModes(
      `to a socket that close is emitted on sends the file, over ${protocol.name}`,
      async (pool, context) => {
        const received = []
        const server = protocol.createServer(async (socket) => received.push(await receive(socket)))
        await serving(server, async (port) => {
          const socket = protocol.connect(port)
          await once(socket, protocol === plain ? 'connect' : 'secureConnect')
          let isOver = false
          const pumping = pumpFile(pool, file, socket, { chunkSize: MIB }).finally(() => {
            isOver = true
          })
          for (let i = 0; i < 3; i++) {
            await until(() => isOver || socket.writableLength > 0, 'a write is under way')
            forge(socket, 'close', 'drain', 'finish')
            takeOver(pool, MIB, context)
            await turn()
          }
          assert.equal(await pumping, CONTENT.length)
          socket.end()
          await until(() => received.length > 0, 'all has come')
          assertOurs(received[0], true)
        })
      }
    )
  }

  for (const transport of TRANSPORTS.filter(({ isHttp2 }) => !isHttp2)) {
    for (const target of ['response', 'connection']) {
      inBothModes(
        `to a response whose ${target} close is emitted on sends the file, over ${transport.name}`,
        async (pool, context) => {
          const server = transport.createServer(async (req, res) => {
            res.setHeader('content-length', CONTENT.length)
            const { socket } = req
            const pumping = pumpFile(pool, file, res, { chunkSize: MIB })
            let isOver = false
            pumping
              .catch(() => {})
              .then(() => {
                isOver = true
              })
            await until(() => isOver || socket.writableLength > 0, 'a write is under way')
            forge(target === 'response' ? res : socket, 'close', 'drain')
            takeOver(pool, MIB, context)
            await pumping.then(
              () => res.end(),
              () => socket.destroySoon()
            )
          })
          await serving(server, async (port) => {
            const module = transport.name === 'http' ? http : require('node:https')
            const req = module.request({ host: HOST, port, ca: cert, agent: false }).end()
            req.on('error', () => {})
            const [res] = await once(req, 'response')
            const bytes = await receive(res)
            assertOurs(bytes)
            if (target === 'response') assert.ok(bytes.length > 0)
          })
        }
      )
    }
  }

  inBothModes('hears a signal that aborts while it is listened to', async (pool) => {
    const sink = fs.createWriteStream(path.join(folder, 'none'))
    for (const aborting of ['by its listener', 'by its state']) {
      const signal = {
        aborted: false,
        reason: 'enough',
        addEventListener(_event, listener) {
          if (aborting === 'by its state') this.aborted = true
          else listener()
        },
        removeEventListener() {
          throw new Error('on purpose')
        }
      }
      await assert.rejects(pumpFile(pool, file, sink, { signal }), { name: 'AbortError' })
    }
    sink.destroy()
    await allBack(pool)
  })

  inBothModes(
    'whose writable throws when it is let go of has its outcome all the same',
    async (pool) => {
      const sink = fs.createWriteStream(path.join(folder, 'thrown'))
      sink.on('removeListener', (event) => {
        if (event === 'error' || event === 'close') throw new Error('a listener')
      })
      assert.equal(await pumpFile(pool, file, sink), CONTENT.length)
      sink.destroy()
      await allBack(pool)
    }
  )

  inBothModes(
    'whose writable throws when it is listened to is rejected, and keeps nothing',
    async (pool) => {
      for (const event of ['error', 'close']) {
        const sink = fs.createWriteStream(path.join(folder, 'none'))
        sink.on('error', () => {})
        const before = sink.listenerCount('error')
        sink.on('newListener', (name) => {
          if (name === event) throw new Error('a listener')
        })
        await assert.rejects(pumpFile(pool, file, sink), { message: 'a listener' })
        assert.equal(sink.listenerCount('error'), before)
        sink.destroy()
      }
      await allBack(pool)
    }
  )

  for (const event of ['connect', 'close']) {
    inBothModes(
      `to a socket with a listener that throws at '${event}' keeps what Node has taken`,
      async (pool, context) => {
        const received = []
        const server = net.createServer(async (socket) => received.push(await receive(socket)))
        await serving(server, async (port) => {
          let found
          const lookup = (_host, _options, callback) => {
            found = () => callback(null, [{ address: HOST, family: 4 }])
          }
          const socket = net.connect({ port, host: 'somewhere', lookup })
          socket.on('error', () => {})
          const pumping = pumpFile(pool, file, socket, { chunkSize: MIB })
          socket.once('newListener', function refuse(name) {
            if (name !== event) return socket.once('newListener', refuse)
            throw new Error('a listener')
          })
          await assert.rejects(pumping, { message: 'a listener' })
          const owners = takeOver(pool, MIB, context)
          found()
          await once(socket, 'connect')
          await sleep(50)
          socket.destroy()
          await until(() => received.length > 0, 'what is sent has come')
          assertOurs(received[0])
          owners.stop()
        })
        await eventually(() => pool.stats().inUseCount === 0, 'all is back, or collected')
      }
    )
  }

  inBothModes(
    'from a handle that would release the block is rejected, and sends nothing of the next owner',
    async (pool, context) => {
      const sink = fs.createWriteStream(path.join(folder, 'released'))
      const handle = {
        fd: 999,
        datasync() {},
        read(bytes) {
          takeOver(pool, MIB, context)
          // The object is not the pool's, and sees no block.
          pool.release(bytes)
          return { bytesRead: 1000 }
        }
      }
      await assert.rejects(pumpFile(pool, handle, sink, { chunkSize: MIB }), {
        code: 'ERR_CISTERN_NOT_POOLED'
      })
      sink.end()
      await once(sink, 'close')
      assert.equal(fs.statSync(path.join(folder, 'released')).size, 0)
    }
  )
})

/** Returns true if more is leased than the next owners have. */
function isOut(pool) {
  return pool.stats().inUseCount > 20
}
