'use strict'

/**
 * Memory that a call asks for as zeros is zero in the whole ArrayBuffer, since a copy of a Buffer
 * includes all of it.
 */

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const { MessageChannel, receiveMessageOnPort } = require('node:worker_threads')
const { BufferPool } = require('../..')
const { givenBack, inEveryMode, runScript } = require('../support/helpers')

/** Sizes that leave room in their blocks. */
const SIZES = [1, 100, 5000, 100_000, 1_100_000]

/** The calls that ask for zeros. */
const ZEROED = {
  alloc: (pool, size) => pool.alloc(size),
  'alloc filled with 0': (pool, size) => pool.alloc(size, 0),
  'alloc filled with nothing': (pool, size) => pool.alloc(size, ''),
  'alloc filled with a zero': (pool, size) => pool.alloc(size, '\0'),
  lease: (pool, size) => pool.lease(size, { zero: true }).buffer,
  acquire: (pool, size) => pool.acquire(size, { zero: true }),
  acquireLease: async (pool, size) =>
    pool.acquireLease === undefined
      ? pool.acquire(size, { zero: true })
      : (await pool.acquireLease(size, { zero: true })).buffer
}

/**
 * Makes a pool store a block of that size, full of ones.
 *
 * @param {BufferPool} pool
 * @param {number} size
 */
async function soil(pool, size) {
  const buffer = pool.allocUnsafe(size)
  new Uint8Array(buffer.buffer).fill(1)
  pool.release(buffer)
  await givenBack()
}

/** Returns the bytes that another thread gets when it is sent the Buffer. */
function posted(buffer) {
  const { port1, port2 } = new MessageChannel()
  port1.postMessage(buffer)
  const { message } = receiveMessageOnPort(port2)
  port1.close()
  return message
}

const isZero = (bytes) => bytes.every((byte) => byte === 0)

describe('All of the ArrayBuffer is zero', () => {
  for (const [name, lease] of Object.entries(ZEROED)) {
    test(
      `of ${name}`,
      inEveryMode(async (pool) => {
        for (const size of SIZES) {
          await soil(pool, size)
          const buffer = await lease(pool, size)
          assert.equal(buffer.length, size)
          assert.ok(buffer.buffer.byteLength > size || size === 5000)
          for (const copy of [buffer, structuredClone(buffer), posted(buffer)]) {
            assert.ok(isZero(new Uint8Array(copy.buffer)), `${size} bytes`)
          }
          pool.release(buffer)
        }
      })
    )
  }

  test(
    'but for the text of alloc with a fill',
    inEveryMode(async (pool) => {
      for (const fill of ['text', Buffer.from([1, 2, 3]), 7]) {
        await soil(pool, 100_000)
        const buffer = pool.alloc(100_000, fill)
        const all = new Uint8Array(structuredClone(buffer).buffer)
        assert.ok(buffer.equals(Buffer.alloc(100_000, fill)))
        assert.ok(isZero(all.subarray(100_000)))
        pool.release(buffer)
      }
    })
  )

  test('of what V8 serves', async () => {
    for (const options of [{ maxBytes: 1 }, { maxBlockSize: 1 }]) {
      const pool = new BufferPool(options)
      for (const size of [0, 100]) {
        const buffers = [pool.alloc(size), pool.lease(size, { zero: true }).buffer]
        for (const buffer of buffers) assert.ok(isZero(new Uint8Array(buffer.buffer)))
      }
      assert.ok(isZero(new Uint8Array(pool.allocUnsafe(0).buffer)))
    }
  })
})

describe('Under --zero-fill-buffers all of the ArrayBuffer is zero', () => {
  /** The calls that lease, as code: `show` is called with each Buffer of the pool's. */
  const WAYS = {
    allocUnsafe: 'show(pool.allocUnsafe(SIZE))',
    'alloc with a fill': 'show(pool.alloc(SIZE, 1), SIZE)',
    lease: 'show(pool.lease(SIZE).buffer)',
    acquire: 'show(await pool.acquire(SIZE))',
    'acquire that waits': `
      const held = pool.allocUnsafe(MAX)
      const waiting = pool.acquire(SIZE)
      new Uint8Array(held.buffer).fill(1)
      pool.release(held)
      show(await waiting)`,
    byteBuffer: "show(pool.byteBuffer(SIZE).append('').view())",
    'byteBuffer that grows': `
      const bytes = pool.byteBuffer(1000)
      bytes.append(Buffer.alloc(SIZE, 1))
      show(bytes.view(), SIZE)`,
    readBody: `
      const body = Readable.from([Buffer.alloc(SIZE, 1)])
      show((await readBody(pool, body, { limit: SIZE, length: SIZE })).buffer, SIZE)`,
    chunks: `
      fs.writeFileSync(file, Buffer.alloc(SIZE, 1))
      for await (const chunk of chunks(pool, file, { chunkSize: SIZE })) show(chunk, SIZE)`,
    onread: `
      const server = net.createServer((socket) => socket.end(Buffer.alloc(10, 1)))
      await new Promise((resolve) => server.listen(0, resolve))
      await new Promise((resolve) => {
        const { port } = server.address()
        const read = (count, bytes) => show(bytes, count)
        net.connect({ port, onread: onread(pool, { size: SIZE }, read) }).on('close', resolve)
      })
      server.close()`
  }
  for (const detachOnRelease of [true, false]) {
    for (const [name, code] of Object.entries(WAYS)) {
      test(`${name}, with ${detachOnRelease ? 'detach' : 'reuse'}`, () => {
        const out = runScript(
          `
          const [fs, net, os, path] = ['fs', 'net', 'os', 'path'].map((name) => require('node:' + name))
          const { Readable } = require('node:stream')
          const { chunks, onread, readBody } = require(${JSON.stringify(require.resolve('../../lib/io'))})
          const [SIZE, MAX] = [70_000, 8 * 1024 * 1024]
          const file = path.join(os.tmpdir(), 'cistern-zeros-' + process.pid)
          const pool = new cistern.BufferPool({ detachOnRelease: ${detachOnRelease}, maxBytes: MAX })
          // Each block that is leased later had another owner.
          for (let kib = 1; kib <= 256; kib *= 2) {
            for (const quarters of [4, 5, 6, 7]) pool.release(pool.allocUnsafe(kib * quarters * 256).fill(1))
          }
          let shown = 0
          function show(buffer, length = 0) {
            const all = new Uint8Array(buffer.buffer)
            shown++
            if (all.subarray(length).some((byte) => byte !== 0)) console.log('old bytes')
          }
          async function main() { ${code} }
          main().finally(() => { fs.rmSync(file, { force: true }) }).then(() => console.log(shown > 0))
          `,
          { flags: ['--zero-fill-buffers'] }
        )
        assert.equal(out.trim(), 'true')
      })
    }
  }
})
