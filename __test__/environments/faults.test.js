'use strict'

/**
 * Faults from below, each made in a process of its own: after every one nothing is lost, nothing is handed
 * out twice, the error says what it was, and the pool works again as soon as the fault is over.
 *
 * Memory is refused by the operating system itself (RLIMIT_AS), single calls by `faults.c`.
 */

// First: cistern takes `fs.read` as it is when cistern is loaded.
const { spyOnRead } = require('../support/spied-read')
const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const crypto = require('node:crypto')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { PassThrough } = require('node:stream')
const { after, before, describe, test } = require('node:test')
const { BufferPool } = require('../..')
const { chunks, pumpFile } = require('../../lib/io')
const { flagsOf } = require('../../scripts/project')
const { openFiles } = require('../support/faults')
const {
  balanced,
  collectUntil,
  eventually,
  external,
  isChecked,
  runScript,
  settle
} = require('../support/helpers')

const MIB = 1024 * 1024

const onlyLinux = { skip: process.platform !== 'linux' && 'as Linux has it' }

/** What V8 allocates is V8's affair. */
const onOwnMemory = { skip: !external && "where blocks are memory of cistern's own" }

let folder = ''
/** A file of 80 MiB and some bytes. */
let file = ''
/** One of 8 MiB. */
let smallFile = ''
/** `faults.c`, compiled; empty where it can't be. */
let shim = ''

before(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-faults-'))
  file = path.join(folder, 'file')
  fs.writeFileSync(
    file,
    Buffer.concat(Array(80).fill(crypto.randomBytes(MIB)).concat(Buffer.from('end')))
  )
  smallFile = path.join(folder, 'small-file')
  fs.writeFileSync(smallFile, crypto.randomBytes(8 * MIB))
  const library = path.join(folder, 'faults.so')
  const source = path.join(__dirname, '..', 'support', 'faults.c')
  const { status } = spawnSync('cc', [
    '-shared',
    '-fPIC',
    '-o',
    library,
    source,
    '-ldl',
    '-lpthread'
  ])
  if (status === 0) shim = library
})

after(() => fs.rmSync(folder, { recursive: true }))

/**
 * Runs a function in a process of its own, with what `faults.js` exports.
 *
 * @param {(faults: typeof import('../support/faults'), given: any) => Promise<void>} work sees nothing else from here
 * @param {{ given?: unknown, env?: NodeJS.ProcessEnv }} [options]
 */
function inChild(work, { given = {}, env = {} } = {}) {
  const faults = JSON.stringify(path.join(__dirname, '..', 'support', 'faults'))
  const output = runScript(
    `void (${work})(require(${faults}), ${JSON.stringify(given)}).then(() => console.log('done'))`,
    // glibc takes 64 MiB of addresses for each thread that allocates: room that a test has counted on.
    { env: { MALLOC_ARENA_MAX: '1', ...env } }
  )
  assert.equal(output, 'done\n')
}

/**
 * The same with `faults.c`.
 *
 * @param {import('node:test').TestContext} context
 * @param {(faults: typeof import('../support/faults'), given: any) => Promise<void>} work
 * @param {unknown} [given]
 */
function withShim(context, work, given) {
  if (shim === '') context.skip('there is no compiler')
  else if (isChecked) context.skip('a memory checker replaces the same functions')
  else inChild(work, { given, env: { LD_PRELOAD: shim } })
}

describe('A call is refused', onlyLinux, () => {
  test('mmap, for the n-th block or slab of blocks', onOwnMemory, (context) => {
    withShim(context, async (faults) => {
      const { BufferPool, allow, assert, assertMarks, assertWhole, balanced } = faults
      const { mark, refuse, tryEach } = faults
      // One lies in a slab of 1 MiB, for which twice as much is asked for; the other is its own.
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

  test('mmap, for who waited: it is told, and the next is served', onOwnMemory, (context) => {
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
  })

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
              // The second call is that for the counters, where the pool is new.
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
                // The one that nobody has seen goes meanwhile, and takes no one's memory.
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
            // More than a thread keeps: the rest goes to the depot.
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
          // A class's first block brings an ArrayBuffer for counters along. Where that is refused, the block goes back.
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

  test('napi_create_threadsafe_function: the next call makes the bell that tells who waits', (context) => {
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
              // What could not be detached is leased still.
              await settle()
              assert.equal((await balanced(pool)).inUseCount, errors.length)
              pool.trim()
              await balanced(pool)
              if (allow()) refused++
              // A function of its own: a view in a frame that waits would keep a block which trim could not detach.
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
  test('gives back what it does not keep, and counts it', { skip: !external }, async () => {
    // 128 MiB of a class, 256 MiB of all.
    const pool = new BufferPool({ idleTimeout: Infinity })
    const counts = { [8 * MIB]: 40, [12 * MIB]: 12, [16 * MIB]: 10 }
    const buffers = Object.entries(counts).flatMap(([size, count]) =>
      Array.from({ length: count }, () => pool.allocUnsafe(Number(size)))
    )
    const { freshBytes } = await balanced(pool)
    for (const buffer of buffers) pool.release(buffer)
    // What is too much for this thread goes to the depot.
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
    // What it has kept can be had again, each block once.
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
    test(`at the n-th block, whoever asks (detachOnRelease: ${detachOnRelease})`, () => {
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
          // What Node needs meanwhile, or V8 gives back, is less than a block.
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
              // What is there can be had, and no more.
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

  test('to a ByteBuffer that grows: it keeps what it has, and grows later', () => {
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
        // It takes the next block as it releases the last, which is on its way then.
        if (!posts) delete readers.chunks
        for (const read of Object.values(readers)) {
          const pool = new BufferPool({ maxBlockSize: SIZE })
          await leave(SLACK)
          await assert.rejects(read(pool), refused)
          assert.deepEqual(openFiles(file), [])
          assert.deepEqual([pool.stats().allocCount, pool.stats().inUseCount], [0, 0])
          await leave(SIZE + SLACK)
          assert.equal(await read(pool), length)
          assert.equal(pool.stats().peakInUseBytes, SIZE, 'there was one')
          lift()
          assert.equal(await read(pool), length)
          assert.deepEqual(openFiles(file), [])
          await assertWhole(pool)
        }
        // One that is given copies, which V8 can't make.
        const pool = new BufferPool({ maxBlockSize: SIZE })
        await leave(SIZE + SLACK)
        // By Node's `allocUnsafeSlow`, whose error each version words in its own way.
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
        // Not enough for the last block that it grows to, either.
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

describe('A process or worker that ends in the middle of everything', () => {
  /**
   * Thousands of Buffers leased, released and dropped, and every helper at work; then calls `end`.
   *
   * @param {typeof import('../support/faults')} faults
   * @param {{ file: string, detachOnRelease: boolean }} given
   * @param {() => void} end
   * @param {import('../..').BufferPool} [pool]
   */
  async function beBusy(
    { BufferPool, io },
    { file, detachOnRelease },
    end,
    pool = new BufferPool({ detachOnRelease, leakSampleRate: 0 })
  ) {
    const fs = require('node:fs')
    const net = require('node:net')
    const { devNull } = require('node:os')
    const { Readable } = require('node:stream')
    const small = new BufferPool({ detachOnRelease, maxBytes: 65_536 })
    const kept = Array.from({ length: 3000 }, (_, i) => pool.allocUnsafe((i % 100) * 300 + 1))
    for (let i = 0; i < 1000; i++) pool.release(kept.pop())
    // Dropped: some are collected already, some not, some on their way.
    for (let i = 0; i < 3000; i++) pool.allocUnsafe(3000)
    globalThis.gc()
    await new Promise((resolve) => setImmediate(resolve))
    for (let i = 0; i < 1000; i++) pool.allocUnsafe(3000)
    const waiting = [small.allocUnsafe(65_536), small.acquire(1)]
    const busy = []
    // A client that does not read, and one that writes and never ends.
    const server = net.createServer((socket) => {
      socket.on('error', () => {}).unref()
      busy.push(io.pumpFile(pool, file, socket).catch(() => {}))
    })
    await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)))
    const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
    const client = net.connect(port, '127.0.0.1').pause()
    const body = new Readable({ read() {} })
    body.push(Buffer.alloc(100_000))
    busy.push(io.readBody(pool, body))
    for (let i = 0; i < 4; i++) {
      busy.push(io.pumpFile(pool, file, fs.createWriteStream(devNull)).catch(() => {}))
      busy.push(
        (async () => {
          for await (const chunk of io.chunks(pool, file)) busy.push(chunk.length)
        })()
      )
    }
    const bytes = pool.byteBuffer().append('cistern')
    Object.assign(globalThis, { kept, waiting, busy, client, bytes })
    globalThis.gc()
    setImmediate(end)
    // Where it ends by itself.
    server.unref()
    client.unref()
  }

  const ENDS = {
    'process.exit()': { end: '() => process.exit(7)', code: 7 },
    'process.reallyExit()': { end: '() => process.reallyExit(7)', code: 7 },
    'an uncaught exception': { end: '() => { throw new Error("on purpose") }', code: 1 },
    'an unhandled rejection': { end: '() => Promise.reject(new Error("on purpose"))', code: 1 },
    'no more to do': { end: '() => globalThis.client.destroy()', code: 0 },
    'an exit handler that leases and releases': {
      end: `() => {
        process.on('exit', () => {
          const { shared } = faults
          for (let i = 0; i < 100; i++) shared.release(shared.allocUnsafe(5000))
          globalThis.kept = shared.allocUnsafe(100)
        })
        process.exit(7)
      }`,
      code: 7
    }
  }

  /** Runs a script, and asserts how it ends and what it says. */
  function assertEnd(script, code, says = '') {
    const faults = JSON.stringify(path.join(__dirname, '..', 'support', 'faults'))
    const { status, signal, stdout, stderr } = spawnSync(
      process.execPath,
      [
        '--expose-gc',
        ...flagsOf(process.version),
        '-e',
        `const faults = require(${faults})\n${script}`
      ],
      { encoding: 'utf8', timeout: 120_000 }
    )
    assert.deepEqual({ status, signal }, { status: code, signal: null }, `${stderr}\n${stdout}`)
    assert.equal(stdout, says)
    // Node's own words of the exception, and nobody else's.
    if (code === 1)
      assert.match(
        // Node has C print them, which ends lines in Windows' way.
        stderr.replaceAll('\r\n', '\n'),
        /^[\s\S]{0,300}Error: on purpose\n( +at .*\n)+\n?Node\.js v\S+\n*$/
      )
    else assert.equal(stderr, '')
  }

  for (const [name, { end, code }] of Object.entries(ENDS)) {
    test(`by ${name}`, () => {
      for (const detachOnRelease of [true, false]) {
        const given = JSON.stringify({ file: smallFile, detachOnRelease })
        assertEnd(`;(${beBusy})(faults, ${given}, ${end})`, code)
      }
    })
  }

  test('a worker, at any moment, with the pool shared: nothing is lost', onOwnMemory, () => {
    const work = async (faults, busyWorker, file) => {
      const { BufferPool, assert, assertWhole, eventually } = faults
      const { setTimeout: sleep } = require('node:timers/promises')
      const { Worker } = require('node:worker_threads')
      for (const detachOnRelease of [true, false]) {
        const pool = new BufferPool({ detachOnRelease, leakSampleRate: 0 })
        const codes = {
          '() => process.exit(7)': 7,
          '() => { throw new Error("on purpose") }': 1,
          '() => globalThis.client.destroy()': 0,
          '() => { for (;;) globalThis.kept.push(pool.allocUnsafe(100)) }': 1,
          '() => { for (;;) pool.release(pool.allocUnsafe(50_000)) }': 1
        }
        for (const [end, expected] of Object.entries(codes)) {
          for (let round = 0; round < 2; round++) {
            const isEndless = end.includes('for (;;)')
            const workerData = { file, handle: pool.handle }
            const worker = new Worker(busyWorker.replace('END', end), { eval: true, workerData })
            const errors = []
            worker.on('error', ({ message }) => errors.push(message))
            const exit = new Promise((resolve) => worker.on('exit', resolve))
            if (isEndless || round === 1) {
              await Promise.race([sleep(30 + 40 * Math.random() + 100 * round), exit])
              await worker.terminate()
            }
            const code = await exit
            // 0 is Node's word for one that was terminated before it had begun.
            if (round === 0 && !(isEndless && code === 0)) assert.equal(code, expected)
            assert.ok(
              errors.every((message) => message === 'on purpose'),
              errors.join()
            )
            const own = Array.from({ length: 200 }, (_, i) => pool.allocUnsafe(i * 300 + 2))
            faults.mark(own)
            await faults.settle()
            faults.assertMarks(own)
            for (const buffer of own) pool.release(buffer)
          }
        }
        await eventually(() => pool.stats().inUseCount === 0, 'what the workers had is back')
        await assertWhole(pool, { afterEnds: true })
        await eventually(() => faults.openFiles(file).length === 0, 'no file is open')
      }
    }
    const worker = `
      const { workerData } = require('node:worker_threads')
      const faults = require(${JSON.stringify(path.join(__dirname, '..', 'support', 'faults'))})
      const pool = faults.BufferPool.attach(workerData.handle)
      ;(${beBusy})(faults, { file: workerData.file }, END, pool)
    `
    // Workers do not have this function.
    const script = `;(${work})(faults, ${JSON.stringify(worker)}, ${JSON.stringify(smallFile)})`
    assertEnd(`${script}.then(() => console.log('done'))`, 0, 'done\n')
  })
})

describe('fs fails in the middle of a file', () => {
  const CHUNK = 16 * 1024

  /** Reads a file by a helper, from `start` on: how many bytes came, and the error. */
  const READERS = {
    pumpFile: async (pool, source, start) => {
      const sink = new PassThrough()
      const bytes = []
      sink.on('data', (chunk) => bytes.push(chunk))
      try {
        await pumpFile(pool, source, sink, { chunkSize: CHUNK, start })
        return { bytes, sink }
      } catch (error) {
        return { bytes, sink, error }
      }
    },
    chunks: async (pool, source) => {
      const bytes = []
      try {
        for await (const chunk of chunks(pool, source, { chunkSize: CHUNK })) {
          bytes.push(Buffer.from(chunk))
        }
        return { bytes }
      } catch (error) {
        return { bytes, error }
      }
    }
  }

  /** What must hold at once when a helper has failed. */
  async function assertOver(pool, name) {
    assert.equal(pool.stats().inUseCount, 0)
    assert.deepEqual(openFiles(name), [])
    assert.equal((await balanced(pool)).inUseBytes, 0)
  }

  for (const [name, read] of Object.entries(READERS)) {
    test(`${name} of memory that ends: a read that the kernel fails`, onlyLinux, async () => {
      // Behind the stack of a process there is nothing.
      const stack = fs
        .readFileSync('/proc/self/maps', 'utf8')
        .split('\n')
        .find((line) => line.endsWith('[stack]'))
      const end = Number.parseInt(stack.split(/[- ]/)[1], 16)
      const size = 2 * CHUNK + 100
      for (const detachOnRelease of [true, false]) {
        const pool = new BufferPool({ detachOnRelease })
        const { bytes, error } = await read(pool, '/proc/self/mem', end - size)
        assert.equal(error.code, 'EIO')
        // That begins where files begin: nothing is there, either.
        assert.equal(Buffer.concat(bytes).length, name === 'chunks' ? 0 : size)
        await assertOver(pool, `/proc/${process.pid}/mem`)
      }
    })

    test(`${name} of a directory`, { skip: process.platform === 'win32' }, async () => {
      const pool = new BufferPool()
      const { bytes, error } = await read(pool, folder)
      assert.deepEqual([bytes.length, error.code], [0, 'EISDIR'])
      await assertOver(pool, folder)
    })

    test(`${name} of a FileHandle that is closed meanwhile`, async () => {
      const pool = new BufferPool()
      const handle = await fs.promises.open(smallFile)
      const { read: readHandle } = handle
      let reads = 0
      let closed
      handle.read = async (...args) => {
        if (++reads === 4) closed = handle.close()
        return readHandle.apply(handle, args)
      }
      const { bytes, error } = await read(pool, handle)
      assert.equal(error.code, 'EBADF')
      assert.ok(
        fs
          .readFileSync(smallFile)
          .subarray(0, 3 * CHUNK)
          .equals(Buffer.concat(bytes))
      )
      await closed
      await assertOver(pool, smallFile)
    })

    for (const code of ['EIO', 'EBADF', 'ESTALE']) {
      test(`${name}, whose n-th read fails with ${code}`, async (context) => {
        const contents = fs.readFileSync(smallFile)
        for (const detachOnRelease of [true, false]) {
          const pool = new BufferPool({ detachOnRelease })
          for (let n = 1; n <= 6; n++) {
            let reads = 0
            const failure = Object.assign(new Error(`${code}: on purpose, read`), { code })
            spyOnRead(context, (readFile, args) => {
              if (++reads !== n) return readFile(...args)
              // It may have written some of it.
              Uint8Array.prototype.fill.call(args[1], 0xee, 0, 100)
              return setImmediate(args.at(-1), failure, 0)
            })
            const { bytes, error } = await read(pool, smallFile)
            assert.equal(error, failure)
            assert.equal(reads, n, 'nothing is read after it')
            await new Promise((resolve) => setImmediate(resolve))
            assert.ok(contents.subarray(0, (n - 1) * CHUNK).equals(Buffer.concat(bytes)))
            await assertOver(pool, smallFile)
          }
          spyOnRead(context, (readFile, args) => readFile(...args))
          const { bytes } = await read(pool, smallFile)
          await new Promise((resolve) => setImmediate(resolve))
          assert.ok(contents.equals(Buffer.concat(bytes)), 'the same pool works')
          await assertOver(pool, smallFile)
        }
      })
    }
  }
})
