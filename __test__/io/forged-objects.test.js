'use strict'

/**
 * Sockets, streams and responses with functions of their user's, and patched collections. None of
 * them gets at a block that is still read or written.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const path = require('node:path')
const { describe, test } = require('node:test')
const { MessageChannel } = require('node:worker_threads')
const { BufferPool } = require('../..')
const { end, onread, pumpFile } = require('../../lib/io')
const { kindOf } = require('../../lib/io/writable-kinds')
const { inEveryMode, until } = require('../support/helpers')
const { HOST, allBack, serving } = require('../support/io-servers')
const {
  MIB,
  assertOurs,
  file,
  folder,
  inBothModes,
  plain,
  pooled,
  reading,
  receive,
  takeOver
} = require('../support/forgery')

describe('onread, whose functions anyone can call,', () => {
  const kBuffer = Object.getOwnPropertySymbols(new net.Socket()).find(
    ({ description }) => description === 'kBuffer'
  )
  const disguises = {
    'is a Proxy': (socket, memory) =>
      new Proxy(socket, { get: (target, key) => (key === kBuffer ? memory() : target[key]) }),
    'has a symbol like one of Node': (socket, memory) =>
      Object.defineProperty(Object.create(socket), Symbol('kBuffer'), { get: memory })
  }

  for (const [name, disguise] of Object.entries(disguises)) {
    inBothModes(
      `keeps what one socket reads into, where another ${name} and says that it does`,
      async (pool, context) => {
        const { socket } = await reading(context, undefined)
        let block
        let heard = 0
        const option = onread(pool, { size: 4096 }, (length, bytes) => {
          block = bytes
          heard += length
        })
        option.callback.call(
          disguise(socket, () => block),
          1,
          Buffer.alloc(1)
        )
        // This one is given the block.
        const { sender } = await reading(context, option)
        socket.destroy()
        await once(socket, 'close')
        const owners = takeOver(pool, 4096, context)
        sender.write(Buffer.alloc(1000))
        await until(() => heard > 1, 'the bytes have come')
        owners.areWhole()
      }
    )
  }

  inBothModes('gives no socket a block that was released before', async (pool, context) => {
    for (const release of ['by the end of its socket', 'by its user']) {
      const { socket } = await reading(context, undefined)
      let block
      let heard = 0
      const option = onread(pool, { size: 4096 }, (length, bytes) => {
        block = bytes
        heard += length
      })
      option.callback.call(socket, 1, Buffer.alloc(1))
      if (release === 'by its user') pool.release(block)
      socket.destroy()
      await once(socket, 'close')
      const owners = takeOver(pool, 4096, context)
      const { sender } = await reading(context, option)
      sender.write(Buffer.alloc(1000))
      await until(() => heard > 1, 'the bytes have come')
      owners.areWhole()
      owners.stop()
    }
  })

  inBothModes(
    'keeps what a socket reads into, where a patched array finds it another handle',
    async (pool, context) => {
      const { port1 } = new MessageChannel()
      port1.close()
      await once(port1, 'close')
      let heard = 0
      const option = onread(pool, { size: 4096 }, (length) => {
        heard += length
      })
      const { socket, sender } = await reading(context, option)
      const { find } = Array.prototype
      context.after(() => {
        Array.prototype.find = find
      })
      Array.prototype.find = () => port1
      sender.write(Buffer.alloc(1))
      await until(() => heard === 1, 'it has a block')
      socket.emit('close')
      const owners = takeOver(pool, 4096, context)
      sender.write(Buffer.alloc(1000))
      await until(() => heard > 1 || socket.destroyed, 'the bytes have come')
      Array.prototype.find = find
      owners.areWhole()
      assert.equal(heard, 1001)
    }
  )
})

test('A file stream with functions of its user is lent nothing, whatever symbols it has', async (context) => {
  const target = path.join(folder, 'symbols')
  const seen = []
  function Disguised() {
    this[Symbol('kFs')] = fs
    fs.WriteStream.call(this, target, {
      fs: {
        open: fs.open,
        close: fs.close,
        writev: fs.writev,
        write(fd, bytes, ...rest) {
          seen.push(pool.owns(bytes))
          return fs.write(fd, bytes, ...rest)
        }
      }
    })
  }
  Object.setPrototypeOf(Disguised.prototype, fs.WriteStream.prototype)
  const pool = new BufferPool({ detachOnRelease: false })
  const sink = new Disguised()
  context.after(() => sink.destroy())
  await pumpFile(pool, file, sink)
  assert.ok(seen.length > 0 && !seen.includes(true))
  await allBack(pool)
})

test('A patched Set, Map or WeakMap sees nothing that could release a block', async (context) => {
  const seen = []
  const restore = []
  for (const prototype of [Set.prototype, Map.prototype, WeakMap.prototype, WeakSet.prototype]) {
    for (const name of ['add', 'set', 'get', 'delete', 'forEach']) {
      const original = prototype[name]
      if (original === undefined) continue
      prototype[name] = function (...args) {
        if (/[\\/]lib[\\/]io[\\/]/.test(new Error().stack.split('\n')[2])) seen.push(name)
        return original.apply(this, args)
      }
      restore.push(() => {
        prototype[name] = original
      })
    }
  }
  context.after(() => {
    for (const one of restore) one()
  })
  const pool = new BufferPool()
  const server = http.createServer((req, res) => {
    if (req.url === '/end') end(pool, res, pooled(pool))
    else pumpFile(pool, file, res).then(() => res.end())
  })
  await serving(server, async (port) => {
    for (const url of ['/end', '/pump']) {
      const req = http.request({ host: HOST, port, path: url, agent: false }).end()
      const [res] = await once(req, 'response')
      assertOurs(await receive(res), true)
    }
    const option = onread(pool, {}, () => {})
    const socket = plain.connect(port, { onread: option })
    socket.write('GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
    await once(socket, 'close')
  })
  await allBack(pool)
  assert.deepEqual(seen, [])
})

describe('A response that throws when it is asked what it died of', () => {
  test(
    'takes no other one of its connection along',
    inEveryMode(async (pool) => {
      const file = path.join(folder, 'pipelined')
      fs.writeFileSync(file, Buffer.alloc(4 * MIB, 1))
      const pumps = []
      const server = http.createServer((req, res) => {
        if (req.url === '/first') {
          Object.defineProperty(res, 'errored', {
            get() {
              throw new Error('on purpose')
            }
          })
        }
        pumps.push(pumpFile(pool, file, res))
      })
      server.listen(0)
      await once(server, 'listening')
      const client = net.connect(server.address().port)
      client.on('error', () => {})
      client.write('GET /first HTTP/1.1\r\nHost: x\r\n\r\nGET /second HTTP/1.1\r\nHost: x\r\n\r\n')
      await until(() => pumps.length === 2, 'both have come')
      const outcomes = Promise.allSettled(pumps)
      await once(client, 'readable')
      client.destroy()
      for (const { status } of await outcomes) assert.equal(status, 'rejected')
      await until(() => pool.stats().inUseCount === 0, 'nothing is leased')
      server.close()
      await once(server, 'close')
    })
  )
})

describe('A writable that only looks like one of Node', () => {
  test('borrows nothing: a Proxy of a socket', () => {
    assert.equal(kindOf(new net.Socket()), 'stream')
    assert.equal(kindOf(new Proxy(new net.Socket(), {})), undefined)
  })

  test('borrows nothing: a socket with a method of its own, however arrays are gone through', () => {
    const socket = Object.assign(new net.Socket(), { write: () => true })
    const iterate = Array.prototype[Symbol.iterator]
    Array.prototype[Symbol.iterator] = () => iterate.call([])
    try {
      assert.equal(kindOf(socket), undefined)
    } finally {
      Array.prototype[Symbol.iterator] = iterate
    }
  })
})
