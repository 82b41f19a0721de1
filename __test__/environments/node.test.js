'use strict'

/** A pooled Buffer in the hands of Node itself: real servers, files and streams. */

const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs/promises')
const http = require('node:http')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { test } = require('node:test')
const { promisify } = require('node:util')
const zlib = require('node:zlib')
const { BufferPool, shared } = require('../..')
const { balanced, inEveryMode } = require('../support/helpers')

/** Serves until `use` is done. */
async function serving(handler, use) {
  const server = http.createServer(handler).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    return await use(`http://127.0.0.1:${server.address().port}`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

test('An http server sends pooled Buffers, and releases each when it is sent', async () => {
  const pool = new BufferPool()
  const sizeOf = (url) => Number(url.slice(1))
  await serving(
    (req, res) => {
      const size = sizeOf(req.url)
      const buffer = pool.allocUnsafe(size).fill(size & 255)
      res.end(buffer)
      res.once('close', () => pool.release(buffer))
    },
    async (address) => {
      const get = async (size) => {
        const body = Buffer.from(await (await fetch(`${address}/${size}`)).arrayBuffer())
        assert.equal(body.length, size)
        assert.ok(body.every((byte) => byte === (size & 255)))
      }
      for (let round = 0; round < 20; round++) {
        await Promise.all([1, 100, 5000, 70_000, 300_000, 1_000_000].map(get))
      }
    }
  )
  const { inUseCount, hitCount, missCount } = await balanced(pool)
  assert.equal(inUseCount, 0)
  assert.ok(hitCount > missCount)
})

test(
  'Files, sockets, zlib and crypto take a pooled Buffer',
  inEveryMode(async (pool) => {
    const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'cistern-'))
    try {
      const file = path.join(folder, 'file')
      const source = pool.allocUnsafe(100_000)
      crypto.randomFillSync(source)
      const model = Buffer.from(source)
      await fs.writeFile(file, source)

      const target = pool.allocUnsafe(100_000)
      const handle = await fs.open(file)
      const { bytesRead } = await handle.read(target, 0, target.length, 0)
      await handle.close()
      assert.equal(bytesRead, model.length)
      assert.ok(target.equals(model))

      const hash = (buffer) => crypto.createHash('sha256').update(buffer).digest('hex')
      assert.equal(hash(target), hash(model))
      const squeezed = await promisify(zlib.gzip)(target)
      assert.ok(zlib.gunzipSync(squeezed).equals(model))

      const server = net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1')
      await once(server, 'listening')
      const socket = net.connect(server.address().port, '127.0.0.1')
      socket.end(source)
      const echoed = Buffer.concat(await socket.toArray())
      server.close()
      assert.ok(echoed.equals(model))

      pool.release(source)
      pool.release(target)
    } finally {
      await fs.rm(folder, { recursive: true })
    }
  })
)

test('A pooled Buffer does what any Buffer does', () => {
  const pooled = shared.allocUnsafe(26).fill('abc')
  const plain = Buffer.alloc(26, 'abc')
  assert.deepEqual(pooled, plain)
  assert.equal(pooled.toString('hex'), plain.toString('hex'))
  assert.equal(pooled.toString('base64url', 3, 9), plain.toString('base64url', 3, 9))
  assert.equal(pooled.indexOf('cab'), plain.indexOf('cab'))
  assert.equal(pooled.readDoubleLE(8), plain.readDoubleLE(8))
  assert.deepEqual(pooled.toJSON(), plain.toJSON())
  assert.deepEqual(Buffer.concat([pooled, plain]), Buffer.concat([plain, pooled]))
  assert.equal(Buffer.compare(pooled, plain), 0)
  assert.equal(new TextDecoder().decode(pooled), new TextDecoder().decode(plain))
  assert.deepEqual(structuredClone(pooled), structuredClone(plain))
  assert.deepEqual([...pooled.entries()], [...plain.entries()])
  assert.equal(pooled.writeInt32BE(-5, 2), plain.writeInt32BE(-5, 2))
  assert.deepEqual(pooled.swap16(), plain.swap16())
  shared.release(pooled)
})
