'use strict'

/** `onread`: a socket reads into a pooled block, and releases it when it closes. */

const assert = require('node:assert/strict')
const { createHash } = require('node:crypto')
const { once } = require('node:events')
const net = require('node:net')
const { describe, test } = require('node:test')
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises')
const tls = require('node:tls')
const { BufferPool } = require('../..')
const { onread } = require('../../lib/io')
const { MODES, external, inEveryMode, posts, runScript, until } = require('../support/helpers')
const { HOST, allBack, cert, hash, key, randomBytes, serving } = require('../support/io-servers')

const MIB = 1024 * 1024

const PROTOCOLS = [
  {
    name: 'net',
    createServer: (handler) => net.createServer(handler),
    connect: (port, options) => net.connect({ host: HOST, port, ...options })
  },
  {
    name: 'tls',
    createServer: (handler) => tls.createServer({ key, cert }, handler),
    connect: (port, options) => tls.connect({ host: HOST, port, ca: cert, ...options })
  }
]
const [plain] = PROTOCOLS

/** Counts what comes. */
function sink() {
  const digest = createHash('sha256')
  const sum = { length: 0, calls: 0, hash: () => digest.digest('hex') }
  return {
    sum,
    take(length, buffer) {
      sum.calls++
      sum.length += length
      digest.update(buffer.subarray(0, length))
    }
  }
}

/** Returns a server that sends a body to each client. */
const sending = (protocol, body) =>
  protocol.createServer((socket) => {
    socket.on('error', () => {})
    socket.end(body)
  })

describe('onread', () => {
  for (const protocol of PROTOCOLS) {
    for (const { mode, options } of MODES) {
      test(`reads into one pooled block, over ${protocol.name}, ${mode}`, async () => {
        const pool = new BufferPool(options)
        const body = randomBytes(3 * MIB)
        await serving(sending(protocol, body), async (port) => {
          for (const size of [100, 4096, 16_384, 65_536, MIB]) {
            const { sum, take } = sink()
            const { allocCount } = pool.stats()
            const blocks = new Set()
            const option = onread(pool, { size }, function (length, buffer) {
              assert.equal(this, socket)
              assert.equal(buffer.length, size)
              assert.ok(Buffer.isBuffer(buffer))
              assert.ok(pool.owns(buffer))
              blocks.add(buffer)
              take(length, buffer)
              // The callback must not see bytes that others write.
              if (sum.calls % 20 === 0) pool.release(pool.allocUnsafe(size).fill(0xee))
            })
            const socket = protocol.connect(port, { onread: option })
            await once(socket, 'close')
            assert.equal(sum.hash(), hash(body))
            assert.equal(blocks.size, 1)
            const others = Math.floor(sum.calls / 20)
            assert.equal(pool.stats().allocCount, allocCount + 1 + others)
            assert.equal(pool.stats().inUseCount, 0)
          }
        })
        await allBack(pool)
      })
    }

    test(`leases from the first bytes until it closes, over ${protocol.name}`, async () => {
      const pool = new BufferPool()
      const inUse = () => pool.stats().inUseCount
      const server = protocol.createServer((socket) => {
        socket.on('error', () => {})
        socket.on('data', (data) => socket.write(data))
      })
      await serving(server, async (port) => {
        for (const part of [
          (socket) => socket.end(),
          (socket) => socket.destroy(),
          (socket) => socket.destroy(new Error('enough'))
        ]) {
          const { sum, take } = sink()
          const socket = protocol.connect(port, { onread: onread(pool, {}, take) })
          socket.on('error', () => {})
          socket.on('data', () => assert.fail('there are no such events'))
          await once(socket, protocol === plain ? 'connect' : 'secureConnect')
          await sleep(5)
          assert.equal(inUse(), 0)
          socket.write('abc')
          await until(() => sum.length === 3, 'it comes back')
          assert.equal(inUse(), 1)
          part(socket)
          await new Promise((resolve) => socket.once('close', resolve))
          assert.equal(inUse(), 0)
        }
      })
      const { allocBytes } = await allBack(pool)
      assert.equal(allocBytes, 3 * 65_536)
    })

    test(`pauses where the callback says so, over ${protocol.name}`, async () => {
      const pool = new BufferPool()
      const body = randomBytes(2 * MIB)
      await serving(sending(protocol, body), async (port) => {
        const { sum, take } = sink()
        let isPaused = false
        let callsInPauses = 0
        const option = onread(pool, { size: 50_000 }, (length, buffer) => {
          if (isPaused) callsInPauses++
          take(length, buffer)
          isPaused = true
          setTimeout(() => {
            isPaused = false
            socket.resume()
          }, 2)
          return false
        })
        const socket = protocol.connect(port, { onread: option })
        await once(socket, 'close')
        assert.equal(sum.hash(), hash(body))
        // Decrypted bytes come all the same.
        if (protocol === plain) assert.equal(callsInPauses, 0)
      })
      await allBack(pool)
    })

    test(`gives each socket a block of its own, over ${protocol.name}`, async () => {
      const pool = new BufferPool()
      const bodies = Array.from({ length: 12 }, () => randomBytes(MIB))
      let served = 0
      const server = protocol.createServer((socket) => {
        socket.on('error', () => {})
        socket.end(bodies[served++])
      })
      await serving(server, async (port) => {
        const sums = new Map()
        const blocks = new Map()
        const closed = []
        const open = () => {
          const socket = protocol.connect(port, { onread: option })
          sums.set(socket, sink())
          closed.push(once(socket, 'close'))
        }
        const option = onread(pool, { size: 10_000 }, function (length, buffer) {
          blocks.set(this, buffer)
          const { sum, take } = sums.get(this)
          // Opens it during a read, and with the same option.
          if (sum.calls === 0 && sums.size < bodies.length) open()
          take(length, buffer)
        })
        for (let i = 0; i < 4; i++) open()
        while (closed.length > 0) await closed.shift()
        assert.deepEqual(
          [...sums.values()].map(({ sum }) => sum.hash()).sort(),
          bodies.map(hash).sort()
        )
        assert.equal(new Set(blocks.values()).size, bodies.length)
      })
      await allBack(pool)
    })

    test(`leases nothing without a connection, over ${protocol.name}`, async () => {
      const pool = new BufferPool()
      const option = onread(pool, {}, () => assert.fail('nothing comes'))
      const refused = protocol.connect(1, { onread: option })
      await assert.rejects(once(refused, 'close'), { code: 'ECONNREFUSED' })
      const given = protocol.connect(1, { onread: option }).on('error', () => {})
      given.destroy()
      await new Promise((resolve) => given.once('close', resolve))
      const unknown = protocol.connect(1, { host: 'name.invalid', onread: option })
      await assert.rejects(once(unknown, 'close'))
      assert.equal(pool.stats().allocCount, 0)
    })

    test(`survives a callback that releases or moves the memory, over ${protocol.name}`, async () => {
      for (const { options } of MODES) {
        const pool = new BufferPool(options)
        const body = randomBytes(MIB)
        const seized = []
        await serving(sending(protocol, body), async (port) => {
          const { sum, take } = sink()
          const option = onread(pool, { size: 10_000 }, (length, buffer) => {
            take(length, buffer)
            if (sum.calls % 3 === 1) {
              pool.release(buffer)
              // The block's next owner does not release it.
              if (seized.length < 20) seized.push(pool.allocUnsafe(10_000).fill(0xee))
            } else if (sum.calls % 3 === 2 && posts && external) {
              structuredClone(buffer.buffer, { transfer: [buffer.buffer] })
            }
          })
          const socket = protocol.connect(port, { onread: option })
          await once(socket, 'close')
          assert.equal(sum.hash(), hash(body))
        })
        assert.equal(seized.length, 20)
        for (const buffer of seized) {
          assert.ok(buffer.every((byte) => byte === 0xee))
          pool.release(buffer)
        }
        if (posts && external) continue
        await allBack(pool)
      }
    })

    test(`destroys the socket where the pool gives nothing, over ${protocol.name}`, async () => {
      const closed = new BufferPool()
      closed.close()
      const exhausted = new BufferPool({ maxBytes: 1000, onExhausted: 'throw' })
      await serving(sending(protocol, 'abc'), async (port) => {
        for (const [pool, code] of [
          [closed, 'ERR_CISTERN_CLOSED'],
          [exhausted, 'ERR_CISTERN_EXHAUSTED']
        ]) {
          const option = onread(pool, {}, () => assert.fail('there is no memory for it'))
          const socket = protocol.connect(port, { onread: option })
          await assert.rejects(once(socket, 'close'), { code })
        }
      })
    })
  }

  test(
    'reads on a socket that connects again',
    inEveryMode(async (pool) => {
      const body = randomBytes(100_000)
      await serving(sending(plain, body), async (port) => {
        const { sum, take } = sink()
        const socket = plain.connect(port, { onread: onread(pool, { size: 5000 }, take) })
        await once(socket, 'close')
        socket.connect(port, HOST)
        await once(socket, 'close')
        assert.equal(sum.length, 2 * body.length)
        assert.equal(sum.hash(), hash(Buffer.concat([body, body])))
      })
      const { hitCount } = await allBack(pool)
      assert.ok(hitCount >= 1)
    })
  )

  test('is passed over by tls.connect on a socket that it is given', async () => {
    const pool = new BufferPool()
    const body = randomBytes(100_000)
    await serving(sending(PROTOCOLS[1], body), async (port) => {
      const option = onread(pool, {}, () => assert.fail('Node has no such thing'))
      const socket = tls.connect({
        socket: net.connect(port, HOST),
        host: HOST,
        ca: cert,
        onread: option
      })
      const { sum, take } = sink()
      socket.on('data', (data) => take(data.length, data))
      await once(socket, 'close')
      assert.equal(sum.hash(), hash(body))
    })
    assert.equal(pool.stats().allocCount, 0)
  })

  test('reads no more into a block that was released by a callback that throws', () => {
    const out = runScript(
      `const { onread } = require(${JSON.stringify(require.resolve('../../lib/io'))})
       const net = require('node:net')
       const pool = new cistern.BufferPool()
       let caught = 0
       process.on('uncaughtException', ({ message }) => { caught++; if (message !== 'oops') throw 1 })
       const server = net.createServer((socket) => {
         socket.on('error', () => {})
         const timer = setInterval(() => socket.write('x'.repeat(100)), 1)
         socket.on('close', () => clearInterval(timer))
       }).listen(0, '127.0.0.1', () => {
         let next
         const option = onread(pool, { size: 100 }, (_length, buffer) => {
           pool.release(buffer)
           next = pool.allocUnsafe(100).fill(0)
           throw new Error('oops')
         })
         net.connect({ port: server.address().port, onread: option }).on('close', () => {
           console.log(caught, next.equals(Buffer.alloc(100)))
           process.exit()
         })
       })`
    )
    assert.equal(out, '1 true\n')
  })

  test('holds nothing for a server that is silent', async () => {
    const pool = new BufferPool()
    const server = net.createServer((socket) => socket.resume())
    await serving(server, async (port) => {
      const option = onread(pool, { size: MIB }, () => {})
      const sockets = Array.from({ length: 20 }, () => plain.connect(port, { onread: option }))
      await Promise.all(sockets.map((socket) => once(socket, 'connect')))
      await turn()
      assert.equal(pool.stats().inUseCount, 0)
      for (const socket of sockets) socket.destroy()
    })
    assert.equal(pool.stats().allocCount, 0)
  })

  test('names the argument that is wrong', () => {
    const pool = new BufferPool()
    const nothing = () => {}
    for (const [args, code, message] of [
      [[{}, {}, nothing], 'ERR_INVALID_ARG_TYPE', 'The "pool" argument must be an instance of Buf'],
      [[pool, undefined, nothing], 'ERR_INVALID_ARG_TYPE', 'The "options" argument must be an obj'],
      [
        [pool, { size: '1' }, nothing],
        'ERR_INVALID_ARG_TYPE',
        'The "options.size" property must be'
      ],
      [[pool, { size: 0 }, nothing], 'ERR_OUT_OF_RANGE', 'The value of "options.size" is out of'],
      [[pool, { size: 1.5 }, nothing], 'ERR_OUT_OF_RANGE', 'The value of "options.size" is out of'],
      [
        [pool, { size: 2 ** 53 }, nothing],
        'ERR_OUT_OF_RANGE',
        'The value of "options.size" is out'
      ],
      [[pool, {}], 'ERR_INVALID_ARG_TYPE', 'The "callback" argument must be of type function'],
      [[pool, {}, {}], 'ERR_INVALID_ARG_TYPE', 'The "callback" argument must be of type function']
    ]) {
      assert.throws(
        () => onread(.../** @type {[any, any, any]} */ (args)),
        (error) => {
          assert.equal(error.code, code)
          assert.ok(error.message.startsWith(message), error.message)
          return true
        }
      )
    }
    assert.equal(pool.stats().allocCount, 0)
  })
})
