'use strict'

/**
 * Memory that V8 serves: at the ceiling, above `maxBlockSize`, and for no bytes. It is released
 * like any other lease, in any thread, and the totals count the end of its lease.
 */

const assert = require('node:assert/strict')
const { after, before, describe, test } = require('node:test')
const { BufferPool } = require('../..')
const { blocksOf, names, root } = require('../support/documents')
const {
  balanced,
  endsShow,
  eventually,
  external,
  inEveryMode,
  posts,
  settle
} = require('../support/helpers')
const { runProgram, writeProgram } = require('../support/programs')
const { Thread } = require('../support/thread')

const KIB = 1024
const MIB = 1024 * KIB

const ALREADY_RELEASED = { name: 'Error', code: 'ERR_CISTERN_ALREADY_RELEASED' }
const DETACHED = { name: 'Error', code: 'ERR_CISTERN_DETACHED' }
const NOT_POOLED = { name: 'TypeError', code: 'ERR_CISTERN_NOT_POOLED' }

/** Why V8 serves: the options of the pool, and the size that is asked for. */
const REASONS = {
  'at the ceiling': { options: { maxBytes: 1 }, size: 1000 },
  'above maxBlockSize': { options: { maxBlockSize: 10 }, size: 100_000 },
  'of no bytes': { options: {}, size: 0 }
}

/** Ways to lease at once. */
const LEASES = {
  allocUnsafe: (pool, size) => pool.allocUnsafe(size),
  alloc: (pool, size) => pool.alloc(size),
  'alloc with a fill': (pool, size) => pool.alloc(size, 'text'),
  lease: (pool, size) => pool.lease(size).buffer,
  'lease of zeros': (pool, size) => pool.lease(size, { zero: true }).buffer
}

/** Moves the memory of a Buffer to another ArrayBuffer of this thread. */
const moved = (buffer) => structuredClone(buffer, { transfer: [buffer.buffer] })

/**
 * Asserts that every lease of a pool has ended, and how many in which way.
 *
 * @param {BufferPool} pool
 * @param {{ released: number, collected: number }} ends
 */
async function allEnded(pool, { released, collected }) {
  const { allocCount, releaseCount, collectedCount, inUseCount, unpooledCount } =
    await balanced(pool)
  assert.deepEqual(
    { releaseCount, collectedCount },
    { releaseCount: released, collectedCount: collected }
  )
  assert.equal(allocCount, releaseCount + collectedCount + inUseCount)
  assert.deepEqual([inUseCount, unpooledCount], [0, allocCount])
}

for (const [reason, { options, size }] of Object.entries(REASONS)) {
  describe(`A Buffer ${reason}`, () => {
    /** @type {Map<BufferPool, Thread>} */
    const threads = new Map()
    after(() => Promise.all([...threads.values()].map((thread) => thread.terminate())))

    /** @param {BufferPool} pool */
    const threadOf = (pool) => {
      const thread = threads.get(pool) ?? new Thread(pool.handle)
      threads.set(pool, thread)
      return thread
    }

    test(
      'is released by an ArrayBuffer that its memory was moved to',
      inEveryMode(async (pool) => {
        for (const lease of Object.values(LEASES)) {
          const buffer = lease(pool, size)
          const first = moved(buffer)
          const second = moved(first)
          assert.deepEqual(
            [buffer, first, second].map((view) => pool.owns(view)),
            [false, false, true]
          )
          assert.throws(() => pool.release(buffer), DETACHED)
          assert.throws(() => pool.release(first), NOT_POOLED)
          pool.release(new DataView(second.buffer))
          assert.equal(second.buffer.byteLength, 0)
          assert.equal(pool.owns(second), false)
          assert.throws(() => pool.release(second), ALREADY_RELEASED)
          assert.throws(() => pool.release(buffer), DETACHED)
        }
        await allEnded(pool, { released: 5, collected: 0 })
      }, options)
    )

    test(
      'is released where it was posted to',
      { skip: !posts },
      inEveryMode(async (pool) => {
        const thread = threadOf(pool)
        const buffer = pool.allocUnsafe(size).fill(7)
        const answer = await thread.run(
          ({ pool }, bytes) => {
            const { length } = bytes
            const isLike = bytes.every((byte) => byte === 7)
            const before = pool.owns(bytes)
            pool.release(bytes)
            let code
            try {
              pool.release(bytes)
            } catch (error) {
              code = error.code
            }
            return {
              length,
              isLike,
              before,
              after: pool.owns(bytes),
              left: bytes.buffer.byteLength,
              code
            }
          },
          buffer,
          [buffer.buffer]
        )
        const { code } = ALREADY_RELEASED
        assert.deepEqual(answer, {
          length: size,
          isLike: true,
          before: true,
          after: false,
          left: 0,
          code
        })
        assert.throws(() => pool.release(buffer), DETACHED)
        await allEnded(pool, { released: 1, collected: 0 })
      }, options)
    )

    test(
      'is released where it was posted to, whichever thread leased it',
      { skip: !posts },
      inEveryMode(async (pool) => {
        const bytes = await threadOf(pool).run(({ pool, transfer }, size) => {
          const buffer = pool.allocUnsafe(size)
          transfer.push(buffer.buffer)
          return buffer
        }, size)
        assert.equal(bytes.length, size)
        assert.ok(pool.owns(bytes))
        pool.release(bytes)
        assert.throws(() => pool.release(bytes), ALREADY_RELEASED)
        await allEnded(pool, { released: 1, collected: 0 })
      }, options)
    )

    test(
      'is released when the thread that leased it has ended',
      { skip: !posts },
      inEveryMode(async (pool) => {
        const thread = new Thread(pool.handle)
        const bytes = await thread.run(({ pool, transfer }, size) => {
          const buffer = pool.allocUnsafe(size)
          transfer.push(buffer.buffer)
          return buffer
        }, size)
        await thread.terminate()
        pool.release(bytes)
        await allEnded(pool, { released: 1, collected: 0 })
      }, options)
    )

    test(
      'counts as collected when it is dropped',
      inEveryMode(async (pool) => {
        for (const lease of Object.values(LEASES)) lease(pool, size)
        moved(pool.allocUnsafe(size))
        await eventually(() => pool.stats().collectedCount === 6, 'all are collected')
        await allEnded(pool, { released: 0, collected: 6 })
      }, options)
    )

    test(
      'counts as collected when it is dropped where it was posted to, or its thread ends',
      { skip: !posts },
      inEveryMode(async (pool) => {
        const thread = new Thread(pool.handle)
        const post = () => {
          const buffer = pool.allocUnsafe(size)
          return thread.run((self, bytes) => self.kept?.push(bytes), buffer, [buffer.buffer])
        }
        await post()
        await eventually(() => pool.stats().collectedCount === 1, 'it is collected', [thread])
        await thread.run((self, size) => {
          self.kept = [self.pool.allocUnsafe(size)]
        }, size)
        await post()
        if (endsShow) {
          await thread.collect()
          assert.equal(pool.stats().collectedCount, 1, 'both are held')
        }
        await thread.terminate()
        await eventually(() => pool.stats().collectedCount === 3, 'all are collected')
        await allEnded(pool, { released: 0, collected: 3 })
      }, options)
    )

    test('is none that came to be a copy, nor any of no pool, nor of another', async () => {
      const [pool, other] = [new BufferPool(options), new BufferPool(options)]
      const buffer = pool.allocUnsafe(size)
      const foreign = [
        structuredClone(buffer),
        Buffer.from(buffer),
        Buffer.alloc(0),
        new ArrayBuffer(0),
        new ArrayBuffer(1),
        new ArrayBuffer(size),
        moved(Buffer.alloc(size)),
        moved(other.allocUnsafe(size))
      ]
      for (const view of foreign) {
        assert.equal(pool.owns(view), false)
        assert.throws(() => pool.release(view), NOT_POOLED)
      }
      pool.release(moved(buffer))
      await allEnded(pool, { released: 1, collected: 0 })
    })

    test('is not taken for what lies there after it', { skip: !endsShow }, async () => {
      const pool = new BufferPool(options)
      const drop = () => void moved(pool.allocUnsafe(size))
      for (let i = 0; i < 20; i++) drop()
      globalThis.gc()
      await settle()
      // The C library has given some of these the same places.
      const length = size === 0 ? 1 : size
      const foreign = Array.from({ length: 100 }, () => Buffer.allocUnsafeSlow(length))
      for (const buffer of foreign) assert.throws(() => pool.release(buffer), NOT_POOLED)
      await eventually(() => pool.stats().collectedCount === 20, 'all are collected')
    })
  })
}

describe('A released Buffer of V8', () => {
  test('that release leaves as it is, is known as released wherever its memory goes', async () => {
    const pool = new BufferPool({ detachOnRelease: false, maxBlockSize: 10 })
    const buffer = pool.allocUnsafe(1000)
    pool.release(buffer)
    assert.throws(() => pool.release(moved(buffer)), ALREADY_RELEASED)
    await allEnded(pool, { released: 1, collected: 0 })
  })

  test('is not counted again when it is collected', async () => {
    for (const detachOnRelease of [true, false]) {
      const pool = new BufferPool({ detachOnRelease, maxBlockSize: 10 })
      pool.release(pool.allocUnsafe(1000))
      pool.allocUnsafe(1000)
      await eventually(() => pool.stats().collectedCount === 1, 'the other one is collected')
      await allEnded(pool, { released: 1, collected: 1 })
    }
  })
})

test('The overhead of many Buffers that V8 served is in proportion, and is given back', async () => {
  const pool = new BufferPool({ maxBlockSize: 10 })
  const before = pool.stats().overheadBytes
  const buffers = Array.from({ length: 20_000 }, () => pool.allocUnsafe(11))
  const full = pool.stats().overheadBytes - before
  assert.ok(full > 0 && full < 20_000 * 400, `${full} bytes`)
  for (const buffer of buffers) pool.release(buffer)
  pool.trim()
  assert.ok(pool.stats().overheadBytes - before < 100_000)
  await allEnded(pool, { released: 20_000, collected: 0 })
})

describe('The example of threads', { skip: !external || !posts }, () => {
  let code = ''
  before(() => {
    const isExample = (block) =>
      block.code.includes('parentPort.postMessage(buffer, [buffer.buffer])')
    code = names.flatMap(blocksOf).find(isExample)?.code ?? ''
  })

  /** @param {string} text @param {RegExp} pattern @param {string} replacement */
  function replaced(text, pattern, replacement) {
    assert.match(text, pattern)
    return text.replace(pattern, replacement)
  }

  test('goes on at the ceiling: 200 posts, with 2 ms of work for each', () => {
    const work = 'const end = performance.now() + 2\n    while (performance.now() < end);\n    '
    const print = 'console.log(JSON.stringify(pool.stats()))'
    let program = replaced(code, /(?=console\.log)/, work)
    program = replaced(
      program,
      /(?<=workerData: pool\.handle \}\))/,
      `\n  process.on('exit', () => ${print})`
    )
    program = replaced(
      program,
      /( {2}const buffer = .*? {2}parentPort\.postMessage[^\n]*)/s,
      '  for (let i = 0; i < 200; i++) {\n$1\n  }'
    )
    program = replaced(program, /require\('cistern'\)/, `require(${JSON.stringify(root)})`)
    const { status, stdout, stderr } = runProgram(writeProgram('program.js', program))
    assert.equal(status, 0, stderr)
    const lines = stdout.trim().split('\n')
    const { allocCount, releaseCount, collectedCount, unpooledCount, inUseCount, maxBytes } =
      JSON.parse(lines.pop() ?? '')
    assert.equal(lines.length, 200)
    assert.ok(lines.every((line) => line === 'hello'))
    assert.deepEqual([allocCount, releaseCount, collectedCount, inUseCount], [200, 200, 0, 0])
    assert.equal(maxBytes, 64 * MIB)
    assert.ok(unpooledCount > 0, 'the ceiling was reached')
  })
})
