'use strict'

/**
 * Faults from below, each made in a process of its own: system calls that are refused, and memory
 * that is. After every fault nothing is lost and no block has two owners. The error says what it
 * was, and the pool works again as soon as the fault is over.
 *
 * The operating system itself refuses memory (RLIMIT_AS); `faults.c` refuses single calls.
 */

const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const { BufferPool } = require('../..')
const {
  balanced,
  collectUntil,
  eventually,
  external,
  isChecked,
  settle
} = require('../support/helpers')
const {
  MIB,
  folder,
  inChild,
  onlyLinux,
  onOwnMemory,
  withShim
} = require('../support/fault-processes')

/** A file of 80 MiB and some bytes. */
const file = path.join(folder, 'file')
fs.writeFileSync(
  file,
  Buffer.concat(Array(80).fill(crypto.randomBytes(MIB)).concat(Buffer.from('end')))
)

describe('A call is refused', onlyLinux, () => {
  test('mmap, for the n-th block or slab of blocks', onOwnMemory, (context) => {
    withShim(context, async (faults) => {
      const { BufferPool, allow, assert, assertMarks, assertWhole, balanced } = faults
      const { mark, refuse, tryEach } = faults
      // One block lies in a slab of 1 MiB, which needs a mapping of twice that; the other has its
      // own pages.
      const sizes = { 40000: 2 ** 21, 131072: 131_072 }
      for (const [size, mapped] of Object.entries(sizes)) {
        for (let n = 1; n <= 4; n++) {
          const pool = new BufferPool()
          refuse('mmap', n, n + 1, mapped)
          const { got, errors } = await tryEach(110, () => pool.allocUnsafe(Number(size)))
          assert.equal(errors.length, 2)
          for (const error of errors) assert.equal(error.code, 'ERR_MEMORY_ALLOCATION_FAILED')
          const stats = await balanced(pool)
          assert.equal(stats.inUseCount, got.length)
          mark(got)
          assertMarks(got)
          for (const buffer of got) pool.release(buffer)
          await assertWhole(pool)
          allow()
        }
      }
    })
  })

  test(
    'mmap, for a waiter: it is rejected, and the next waiter is served',
    onOwnMemory,
    (context) => {
      withShim(context, async (faults) => {
        const { BufferPool, allow, assert, assertWhole, refuse } = faults
        const MIB = 2 ** 20
        const pool = new BufferPool({ maxBytes: 4 * MIB })
        const full = pool.allocUnsafe(4 * MIB)
        const waiting = [1, 2, 3].map(() => pool.acquire(MIB))
        const settled = Promise.allSettled(waiting)
        refuse('mmap', 2, 2, MIB)
        pool.release(full)
        const results = await settled
        allow()
        assert.deepEqual(
          results.map(({ status }) => status),
          ['fulfilled', 'rejected', 'fulfilled']
        )
        assert.equal(results[1].reason.code, 'ERR_MEMORY_ALLOCATION_FAILED')
        assert.equal(pool.stats().inUseCount, 2)
        for (const { value } of results) if (value !== undefined) pool.release(value)
        await assertWhole(pool)
      })
    }
  )

  test('pthread_create: what is idle stays, until there is a thread to free it', (context) => {
    withShim(context, async (faults) => {
      const { BufferPool, allow, assert, balanced, eventually, refuse } = faults
      const { setTimeout: sleep } = require('node:timers/promises')
      const pool = new BufferPool({ idleTimeout: 20 })
      refuse('pthread_create', 1, 1000)
      pool.release(pool.allocUnsafe(100_000))
      await sleep(100)
      assert.equal(pool.stats().idleCount, 1)
      pool.release(pool.allocUnsafe(100_000))
      assert.equal(pool.stats().freshCount, 1)
      allow()
      pool.release(pool.allocUnsafe(100_000))
      await eventually(() => pool.stats().idleCount === 0, 'it is freed')
      await balanced(pool)
    })
  })

  for (const way of ['before', 'finalized', 'made', 'disallowed']) {
    test(`napi_create_external_arraybuffer, ${way}, at the n-th block`, onOwnMemory, (context) => {
      withShim(
        context,
        async (faults, way) => {
          const { BufferPool, allow, assert, assertMarks, assertWhole, balanced } = faults
          const { collectUntil, mark, refuse, tryEach } = faults
          const COUNT = 12
          const SIZE = 20_000
          const code = way === 'disallowed' ? 'ERR_CISTERN_NO_EXTERNAL' : 'ERR_CISTERN_REFUSED'
          for (const detachOnRelease of [true, false]) {
            const calls = {
              allocUnsafe: (pool) => pool.allocUnsafe(SIZE),
              alloc: (pool) => pool.alloc(SIZE),
              lease: (pool) => pool.lease(SIZE).buffer,
              acquire: (pool) => pool.acquire(SIZE)
            }
            for (const call of Object.values(calls)) {
              // In a new pool the second call is the one for the counters.
              for (let n = 1; n <= 4; n++) {
                const pool = new BufferPool({ detachOnRelease })
                refuse('napi_create_external_arraybuffer', n, n, n === 2 ? 'before' : way)
                const { got, errors } = await tryEach(COUNT, () => call(pool))
                allow()
                assert.equal(errors.length, 1)
                if (n !== 2) assert.equal(errors[0].code, code)
                assert.match(errors[0].message, /Node-API refused|allows no ArrayBuffer/)
                assert.equal(got.length, COUNT - 1)
                await balanced(pool)
                got.push(...(await tryEach(COUNT, () => call(pool))).got)
                mark(got)
                // The ArrayBuffer that no code has seen is collected meanwhile, and frees no other
                // owner's memory.
                globalThis.gc()
                await balanced(pool)
                assertMarks(got)
                await collectUntil(
                  () => pool.stats().inUseCount === got.length,
                  'no other is leased'
                )
                for (const buffer of got) pool.release(buffer)
                await assertWhole(pool)
              }
            }
          }
        },
        way
      )
    })
  }

  test(
    'napi_create_external_arraybuffer, in the middle of a batch from the depot',
    onOwnMemory,
    (context) => {
      withShim(context, async (faults) => {
        const { BufferPool, allow, assert, assertMarks, assertWhole, mark } = faults
        const { eventually, refuse, settle, tryEach } = faults
        const COUNT = 600
        const SIZE = 4096
        const pool = new BufferPool({ idleTimeout: Infinity })
        for (const way of ['before', 'finalized', 'made']) {
          for (let n = 1; n < 6; n++) {
            // This is more than a thread stores: the rest goes to the depot.
            const { got } = await tryEach(COUNT, () => pool.allocUnsafe(SIZE))
            assert.equal(got.length, COUNT)
            for (const buffer of got) pool.release(buffer)
            await settle()
            refuse('napi_create_external_arraybuffer', n, n + 1, way)
            const again = await tryEach(COUNT, () => pool.allocUnsafe(SIZE))
            allow()
            for (const { code } of again.errors) assert.equal(code, 'ERR_CISTERN_REFUSED')
            mark(again.got)
            globalThis.gc()
            await settle()
            assertMarks(again.got)
            await eventually(
              () => pool.stats().inUseCount === again.got.length,
              'what was refused is back'
            )
            for (const buffer of again.got) pool.release(buffer)
          }
        }
        await assertWhole(pool)
      })
    }
  )

  test(
    'napi_create_external_arraybuffer, to who waited, and to helpers that read',
    onOwnMemory,
    (context) => {
      withShim(
        context,
        async (faults, file) => {
          const { BufferPool, allow, assert, assertWhole, io, openFiles, refuse, settle } = faults
          const fs = require('node:fs')
          const { Readable } = require('node:stream')
          const refused = { code: 'ERR_CISTERN_REFUSED' }
          const MIB = 2 ** 20
          const pool = new BufferPool({ maxBytes: 4 * MIB })
          // A class's first block brings an ArrayBuffer for counters along. If that is refused, the
          // block goes back.
          refuse('napi_create_external_arraybuffer', 2)
          await assert.rejects(pool.acquire(MIB), refused)
          allow()
          await settle()
          assert.equal(pool.stats().idleCount, 1)
          pool.release(await pool.acquire(MIB))
          assert.equal(pool.stats().freshCount, 1)
          await assertWhole(pool)
          for (const way of ['before', 'finalized', 'made']) {
            const full = await pool.acquire(4 * MIB)
            const settled = Promise.allSettled([1, 2, 3].map(() => pool.acquire(MIB)))
            refuse('napi_create_external_arraybuffer', 2, 2, way)
            pool.release(full)
            const results = await settled
            assert.deepEqual(
              results.map(({ status }) => status),
              ['fulfilled', 'rejected', 'fulfilled']
            )
            assert.equal(results[1].reason.code, 'ERR_CISTERN_REFUSED')
            for (const { value } of results) if (value !== undefined) pool.release(value)
            await assertWhole(pool)

            const uses = {
              pumpFile: () => io.pumpFile(pool, file, fs.createWriteStream('/dev/null')),
              chunks: () => io.chunks(pool, file).next(),
              readBody: () => io.readBody(pool, Readable.from([Buffer.alloc(100)]))
            }
            for (const use of Object.values(uses)) {
              refuse('napi_create_external_arraybuffer', 1, 1, way)
              await assert.rejects(use(), refused)
              await assertWhole(pool)
              assert.deepEqual(openFiles(file), [])
            }
            const bytes = pool.byteBuffer(100).append('cistern')
            refuse('napi_create_external_arraybuffer', 1, 1, way)
            assert.throws(() => bytes.append(Buffer.alloc(MIB)), refused)
            allow()
            assert.equal(bytes.append('!').toBuffer().toString(), 'cistern!')
            bytes.release()
            await assertWhole(pool)
          }
        },
        file
      )
    }
  )

  test('napi_create_threadsafe_function: the next call creates the waker that wakes waiters', (context) => {
    withShim(context, async ({ BufferPool, allow, assert, eventually, refuse }) => {
      const SIZE = 65_536
      const pool = new BufferPool({ maxBytes: SIZE })
      refuse('napi_create_threadsafe_function', 1)
      assert.throws(() => pool.allocUnsafe(SIZE))
      allow()
      pool.allocUnsafe(SIZE)
      let isServed = false
      pool.acquire(SIZE).then(() => (isServed = true))
      await eventually(() => isServed, 'the dropped Buffer is found, and who waits is told')
    })
  })

  for (const name of [
    'napi_create_external',
    'napi_create_threadsafe_function',
    'napi_detach_arraybuffer',
    ...(external ? [] : ['napi_create_arraybuffer', 'napi_create_reference'])
  ]) {
    test(`${name}, at any call`, (context) => {
      withShim(
        context,
        async (faults, name) => {
          const { BufferPool, allow, assert, assertMarks, assertWhole, balanced } = faults
          const { mark, refuse, settle, tryEach } = faults
          let refused = 0
          for (const detachOnRelease of [true, false]) {
            for (let n = 1; n <= 6; n++) {
              refuse(name, n)
              // A pool, its counters, its first block: any of them may be refused.
              const { got: pools } = await tryEach(3, () => new BufferPool({ detachOnRelease }))
              const pool = pools[0]
              const { got } = await tryEach(20, (i) => pool.allocUnsafe(1000 * i + 2))
              assert.ok(got.length >= 19)
              mark(got)
              assertMarks(got)
              const { errors } = await tryEach(got.length, (i) => pool.release(got[i]))
              // A block that could not be detached is still leased.
              await settle()
              assert.equal((await balanced(pool)).inUseCount, errors.length)
              pool.trim()
              await balanced(pool)
              if (allow()) refused++
              // A function of its own: a view in a waiting frame would keep a block alive that
              // `trim` could not detach.
              const releaseRest = () => {
                for (const buffer of got.splice(0)) if (pool.owns(buffer)) pool.release(buffer)
              }
              releaseRest()
              await assertWhole(pool)
              const waits = new BufferPool({ maxBytes: 65_536 })
              waits.release(await waits.acquire(65_536))
            }
          }
          assert.ok(refused > 0)
        },
        name
      )
    })
  }
})

describe('A full depot', () => {
  test('frees the blocks beyond its bounds, and counts them', { skip: !external }, async () => {
    // The depot stores 128 MiB of a class, 256 MiB of all.
    const pool = new BufferPool({ idleTimeout: Infinity })
    const counts = { [8 * MIB]: 40, [12 * MIB]: 12, [16 * MIB]: 10 }
    const buffers = Object.entries(counts).flatMap(([size, count]) =>
      Array.from({ length: count }, () => pool.allocUnsafe(Number(size)))
    )
    const { freshBytes } = await balanced(pool)
    for (const buffer of buffers) pool.release(buffer)
    // Blocks beyond this thread's bounds go to the depot.
    await settle()
    const before = await balanced(pool)
    assert.equal(before.inUseBytes, 0)
    assert.equal(before.freshBytes, freshBytes)
    assert.ok(before.idleBytes <= (256 + 64) * MIB, `${before.idleBytes} bytes are idle`)
    assert.ok(before.discardCount > 0)
    const discarded = before.classes.reduce(
      (sum, { blockSize, discardCount }) => sum + blockSize * discardCount,
      0
    )
    assert.equal(before.freedBytes, discarded, 'each once')
    for (const { blockSize, idleBytes } of before.classes) {
      assert.ok(idleBytes <= (128 + 64) * MIB, `${idleBytes} bytes of blocks of ${blockSize}`)
    }
    // Its idle blocks can be leased again, each of them once.
    const again = before.classes.flatMap(({ blockSize, idleCount }) =>
      Array.from({ length: idleCount }, () => pool.allocUnsafe(blockSize))
    )
    for (const [i, buffer] of again.entries()) buffer.writeUInt32LE(i)
    assert.ok(again.every((buffer, i) => buffer.readUInt32LE() === i))
    assert.equal((await balanced(pool)).freshBytes, freshBytes)
    for (const buffer of again) pool.release(buffer)
    pool.close()
    await eventually(() => pool.stats().freedBytes === freshBytes, 'all is given back')
    await balanced(pool)
  })

  test('of small blocks, filled by the garbage collector', { skip: !external }, async () => {
    const COUNT = 6000
    const pool = new BufferPool({ idleTimeout: Infinity, leakSampleRate: 0 })
    for (let i = 0; i < COUNT; i++) pool.allocUnsafe(64)
    await collectUntil(() => pool.stats().inUseCount === 0, 'all are found')
    const stats = await balanced(pool)
    // A finalizer brings a block straight to the depot.
    assert.deepEqual(
      [stats.freshCount, stats.idleCount, stats.discardCount],
      [COUNT, 4096, COUNT - 4096]
    )
    assert.equal(stats.collectedCount, COUNT)
    assert.equal(pool.trim(), 4096 * 64)
    await balanced(pool)
  })
})

describe('The operating system refuses memory', { skip: onlyLinux.skip || isChecked }, () => {
  for (const detachOnRelease of [true, false]) {
    test(`at the n-th block, for every call (detachOnRelease: ${detachOnRelease})`, () => {
      inChild(
        async (
          {
            BufferPool,
            assert,
            assertMarks,
            assertWhole,
            balanced,
            leave,
            lift,
            mark,
            settle,
            tryEach
          },
          options
        ) => {
          const SIZE = 64 * 2 ** 20
          // Node needs less than a block meanwhile, and V8 gives back less than one.
          const SLACK = 32 * 2 ** 20
          const calls = {
            allocUnsafe: (pool) => pool.allocUnsafe(SIZE),
            'alloc, zeroed': (pool) => pool.alloc(SIZE),
            'alloc, filled': (pool) => pool.alloc(SIZE, 'x'),
            lease: (pool) => pool.lease(SIZE).buffer,
            acquire: (pool) => pool.acquire(SIZE)
          }
          for (const [name, call] of Object.entries(calls)) {
            for (const room of name.startsWith('alloc,') ? [1] : [0, 1, 3]) {
              const pool = new BufferPool({ ...options, maxBytes: 2 ** 30, maxBlockSize: SIZE })
              await leave(room * SIZE + SLACK)
              const { got, errors } = await tryEach(room + 2, () => call(pool))
              assert.equal(got.length, room, `${name} with room for ${room}`)
              for (const error of errors) {
                assert.equal(error.code, 'ERR_MEMORY_ALLOCATION_FAILED')
                assert.match(error.message, /refused a block of 67108864 bytes/)
              }
              const stats = await balanced(pool)
              const { allocCount, idleBytes, inUseBytes, inUseCount, unpooledCount } = stats
              assert.deepEqual([allocCount, inUseCount], [room, room])
              assert.deepEqual([inUseBytes, idleBytes, unpooledCount], [room * SIZE, 0, 0])
              mark(got)
              assertMarks(got)
              for (const buffer of got) pool.release(buffer)
              await settle()
              // The blocks that are there can be leased, and no more.
              const again = await tryEach(room + 1, () => call(pool))
              assert.deepEqual([again.got.length, again.errors.length], [room, 1])
              lift()
              again.got.push(await call(pool), await call(pool))
              mark(again.got)
              assertMarks(again.got)
              for (const buffer of again.got) pool.release(buffer)
              await assertWhole(pool)
            }
          }
        },
        { given: { detachOnRelease } }
      )
    })
  }

  test('to a ByteBuffer that grows: its contents stay, and it grows later', () => {
    inChild(async ({ BufferPool, assert, assertWhole, leave, lift }) => {
      const SIZE = 32 * 2 ** 20
      const pool = new BufferPool({ maxBlockSize: 2 * SIZE })
      const bytes = pool.byteBuffer(SIZE)
      const data = Buffer.alloc(SIZE, 'cistern')
      bytes.append(data)
      // It wants twice as much.
      await leave(SIZE)
      const refused = { code: 'ERR_MEMORY_ALLOCATION_FAILED' }
      for (const more of ['x', data]) {
        assert.throws(() => bytes.append(more), refused)
        assert.deepEqual([bytes.length, bytes.capacity], [SIZE, SIZE])
        assert.ok(bytes.view().equals(data))
      }
      assert.throws(() => pool.byteBuffer(2 * SIZE), refused)
      assert.equal(pool.stats().inUseCount, 1)
      lift()
      bytes.append(data)
      assert.ok(bytes.view().equals(Buffer.concat([data, data])))
      assert.equal(pool.stats().inUseCount, 1)
      bytes.release()
      await assertWhole(pool)
    })
  })

  test('to pumpFile and chunks: no block is an error, one will do', () => {
    inChild(
      async ({ BufferPool, assert, assertWhole, io, leave, lift, openFiles, posts }, { file }) => {
        const SIZE = 64 * 2 ** 20
        const SLACK = 32 * 2 ** 20
        const fs = require('node:fs')
        const { PassThrough } = require('node:stream')
        const { size: length } = fs.statSync(file)
        const pumpTo = (pool, sink) => io.pumpFile(pool, file, sink, { chunkSize: SIZE })
        const refused = { code: 'ERR_MEMORY_ALLOCATION_FAILED' }
        // On a busy machine a file takes longer to close than the grace period.
        const noFileIsOpen = async () => {
          const deadline = performance.now() + 60_000
          while (openFiles(file).length > 0) {
            assert.ok(performance.now() < deadline, 'the file is still open')
            await new Promise(setImmediate)
          }
        }
        const readers = {
          pumpFile: async (pool) => {
            const sink = fs.createWriteStream('/dev/null')
            const total = await pumpTo(pool, sink)
            sink.end()
            return total
          },
          chunks: async (pool) => {
            let total = 0
            for await (const chunk of io.chunks(pool, file, { chunkSize: SIZE })) {
              total += chunk.length
            }
            return total
          }
        }
        // It takes the next block when it releases the last one, which has not returned by then.
        if (!posts) delete readers.chunks
        for (const read of Object.values(readers)) {
          const pool = new BufferPool({ maxBlockSize: SIZE })
          await leave(SLACK)
          await assert.rejects(read(pool), refused)
          await noFileIsOpen()
          assert.deepEqual([pool.stats().allocCount, pool.stats().inUseCount], [0, 0])
          await leave(SIZE + SLACK)
          assert.equal(await read(pool), length)
          assert.equal(pool.stats().peakInUseBytes, SIZE, 'there was one')
          lift()
          assert.equal(await read(pool), length)
          assert.deepEqual(openFiles(file), [])
          await assertWhole(pool)
        }
        // This writable needs copies, which V8 can't make.
        const pool = new BufferPool({ maxBlockSize: SIZE })
        await leave(SIZE + SLACK)
        // Node's `allocUnsafeSlow` throws this, with another text in each version.
        const failed = { name: 'RangeError', message: /allocation failed|allocate memory/ }
        await assert.rejects(pumpTo(pool, new PassThrough().resume()), failed)
        assert.deepEqual([openFiles(file).length, pool.stats().inUseCount], [0, 0])
        lift()
        await assertWhole(pool)
      },
      { given: { file } }
    )
  })

  test('to readBody, at its first block and when it grows', () => {
    inChild(async ({ BufferPool, assert, assertWhole, io, leave, lift }) => {
      const { Readable } = require('node:stream')
      const PIECE = 8 * 2 ** 20
      const SIZE = 10 * PIECE
      const refused = { code: 'ERR_MEMORY_ALLOCATION_FAILED' }
      const pieces = Array.from({ length: 10 }, (_, i) => Buffer.alloc(PIECE, i))
      const options = { limit: SIZE }
      const body = (announced) =>
        Object.assign(Readable.from(pieces), {
          headers: announced ? { 'content-length': String(SIZE) } : {}
        })
      for (const announced of [true, false]) {
        const pool = new BufferPool({ maxBlockSize: SIZE })
        // This is not enough for the last block that it grows to, either.
        await leave(5 * PIECE)
        const req = body(announced)
        await assert.rejects(io.readBody(pool, req, options), refused)
        assert.equal(pool.stats().inUseCount, 0)
        assert.equal(req.listenerCount('data') + req.listenerCount('end'), 0)
        if (!announced) assert.ok(pool.stats().allocCount > 1, 'it has grown')
        lift()
        const lease = await io.readBody(pool, body(announced), options)
        assert.ok(lease.buffer.equals(Buffer.concat(pieces)))
        lease.release()
        await assertWhole(pool)
      }
    })
  })
})
