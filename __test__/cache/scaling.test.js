'use strict'

/**
 * Many blocks: the trimmer works in slices, and the memory that the blocks cost besides. No test
 * here measures time.
 */

const assert = require('node:assert/strict')
const diagnostics = require('node:diagnostics_channel')
const { describe, test } = require('node:test')
const { setImmediate: turn } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { Magazine } = require('../../lib/cache/magazine')
const {
  MODES,
  balanced,
  collectUntil,
  external,
  givesAtOnce,
  inEveryMode,
  isChecked,
  moves,
  runScript,
  settle,
  until
} = require('../support/helpers')

/** The most blocks that the trimmer gives back in one turn. */
const SLICE = 4096

const COUNT = 20_000

const KIB = 1024

/**
 * Leases `count` blocks and releases them.
 *
 * @param {BufferPool} pool
 * @param {number} count
 * @param {number} size
 */
function use(pool, count, size) {
  const buffers = Array.from({ length: count }, () => pool.allocUnsafe(size))
  for (const buffer of buffers) pool.release(buffer)
}

describe('trim()', () => {
  for (const { mode, options } of MODES) {
    for (const blockSize of [64, 1024]) {
      // Without a witness all released blocks still wait for their finalizers, and the pool marks
      // each to be freed then: no slices.
      const skip = !moves && !givesAtOnce && options.detachOnRelease !== false
      test(`frees blocks of ${blockSize} bytes in slices: ${mode}`, { skip }, async (context) => {
        const pool = new BufferPool({ ...options, name: context.name, idleTimeout: Infinity })
        let published = 0
        const listen = (/** @type {any} */ { pool: name, bytes, reason }) => {
          if (name !== context.name) return
          assert.equal(reason, 'call')
          assert.ok(bytes <= 2 * SLICE * blockSize, `${bytes} bytes at a time`)
          published += bytes
        }
        diagnostics.subscribe('cistern:trim', listen)
        context.after(() => diagnostics.unsubscribe('cistern:trim', listen))
        use(pool, COUNT, blockSize)
        const before = pool.stats()
        assert.equal(before.idleBytes, COUNT * blockSize)
        // One slice of the depot's blocks, if it has any, and one of this thread's.
        const freed = pool.trim()
        assert.ok(freed > 0 && freed <= 2 * SLICE * blockSize, `${freed} bytes in the call`)
        if (givesAtOnce) {
          const { idleBytes, freedBytes } = pool.stats()
          assert.equal(idleBytes, COUNT * blockSize - freed)
          assert.equal(freedBytes - before.freedBytes, freed)
        }
        await until(() => pool.stats().idleBytes === 0, 'the others follow')
        const { freedBytes, freshBytes, inUseBytes } = await balanced(pool)
        assert.deepEqual([freedBytes, inUseBytes], [freshBytes, 0])
        assert.equal(published, freedBytes - before.freedBytes)
      })
    }
  }

  test('frees at most a slice in the call, where this thread has all that is idle', async () => {
    const pool = new BufferPool({ idleTimeout: Infinity })
    use(pool, COUNT, 64)
    // On Node 20, which can't move memory here, released blocks go to the depot.
    if (givesAtOnce) assert.equal(pool.trim(), SLICE * 64)
    await until(() => {
      pool.trim()
      return pool.stats().idleBytes === 0
    }, 'all is freed')
    await balanced(pool)
  })

  test(
    'leaves what is leased meanwhile alone',
    inEveryMode(
      async (pool) => {
        use(pool, COUNT, 64)
        pool.trim()
        const buffers = Array.from({ length: COUNT }, (_, i) => pool.allocUnsafe(64).fill(i))
        await until(() => pool.stats().idleBytes === 0, 'what was idle is freed')
        assert.equal(pool.stats().inUseCount, COUNT)
        for (const [i, buffer] of buffers.entries()) {
          assert.ok(buffer.length === 64 && buffer.every((byte) => byte === (i & 255)), `${i}`)
          pool.release(buffer)
        }
      },
      { idleTimeout: Infinity }
    )
  )

  test('leaves as much idle as it is asked to', async () => {
    const pool = new BufferPool({ idleTimeout: Infinity })
    use(pool, COUNT, 64)
    await settle()
    const { idleBytes } = pool.stats()
    const keep = idleBytes / 2
    pool.trim(keep)
    await until(() => pool.stats().idleBytes <= keep, 'the rest is freed')
    await settle()
    assert.equal(pool.stats().idleBytes, keep)
  })

  test('needs no further call, nor does close()', async () => {
    for (const end of ['trim', 'close']) {
      const pool = new BufferPool({ idleTimeout: Infinity })
      use(pool, COUNT, 64)
      pool[end]()
      for (let i = 0; pool.stats().idleBytes > 0; i++) {
        assert.ok(i < COUNT / SLICE + 8, `after ${i} turns of ${end}`)
        await turn()
      }
      await balanced(pool)
    }
  })
})

describe('stats()', () => {
  test('counts many blocks exactly, however they move', async () => {
    const pool = new BufferPool({ idleTimeout: Infinity })
    const sizes = [64, 100, 1000, 5000]
    const buffers = Array.from({ length: COUNT }, (_, i) => pool.allocUnsafe(sizes[i % 4]))
    const full = pool.stats()
    assert.equal(full.inUseCount, COUNT)
    assert.deepEqual(
      full.classes.map(({ blockSize, inUseCount }) => [blockSize, inUseCount]),
      [64, 128, 1024, 5120].map((size) => [size, COUNT / 4])
    )
    for (const buffer of buffers.splice(0, COUNT / 2)) pool.release(buffer)
    await settle()
    const half = await balanced(pool)
    assert.deepEqual([half.inUseCount, half.releaseCount], [COUNT / 2, COUNT / 2])
    pool.trim()
    await until(() => pool.stats().idleBytes === 0, 'what is idle is freed')
    const trimmed = await balanced(pool)
    assert.deepEqual([trimmed.inUseCount, trimmed.releaseCount], [COUNT / 2, COUNT / 2])
    assert.equal(trimmed.allocCount, COUNT)
    for (const buffer of buffers) pool.release(buffer)
    await balanced(pool)
  })
})

describe('overheadBytes', () => {
  for (const { mode, options } of MODES) {
    test(`falls when many blocks have gone: ${mode}`, async () => {
      const pool = new BufferPool({ ...options, idleTimeout: Infinity })
      pool.release(pool.allocUnsafe(64))
      const first = pool.stats().overheadBytes
      use(pool, COUNT, 64)
      const full = pool.stats().overheadBytes
      assert.ok(full > COUNT * 16, `${full} bytes for so many blocks`)
      // If V8 owns the memory, it owns the rows' words, too: they stay, and the record of each loan
      // is dropped.
      const rest = external ? first + 8 * KIB : COUNT * 48
      await collectUntil(() => {
        pool.trim()
        return pool.stats().overheadBytes < rest
      }, 'it costs no more than before')
      assert.equal(pool.stats().idleBytes, 0)
      // The pool works as before.
      use(pool, 1000, 64)
      await balanced(pool)
    })
  }

  test('of a pool that has had one block of 64 bytes is below 32 KiB', () => {
    const pool = new BufferPool()
    const empty = pool.stats().overheadBytes
    const buffer = pool.allocUnsafe(64)
    const { overheadBytes } = pool.stats()
    assert.ok(empty > 0 && empty < 16 * KIB, `${empty} bytes of an empty one`)
    assert.ok(overheadBytes < 32 * KIB, `${overheadBytes} bytes`)
    pool.release(buffer)
    assert.ok(pool.stats().overheadBytes < 32 * KIB)
  })

  test('falls when many have waited', { skip: !external }, async () => {
    const pool = new BufferPool({ maxBytes: 64, maxBlockSize: 64 })
    const held = pool.allocUnsafe(64)
    const { overheadBytes } = pool.stats()
    const controller = new AbortController()
    require('node:events').setMaxListeners(0, controller.signal)
    const waiting = Array.from({ length: 2000 }, () =>
      pool.acquire(64, { signal: controller.signal })
    )
    assert.ok(pool.stats().overheadBytes > overheadBytes + 2000 * 16)
    controller.abort()
    const outcomes = await Promise.allSettled(waiting)
    assert.ok(outcomes.every(({ status }) => status === 'rejected'))
    assert.equal(pool.stats().overheadBytes, overheadBytes)
    pool.release(held)
    await balanced(pool)
  })
})

describe('A magazine', () => {
  /** @param {number} count */
  function filled(count) {
    const magazine = new Magazine(0, 64)
    const slots = Array.from({ length: count }, (_, row) => ({ row, next: null, touched: 0 }))
    for (const slot of slots) magazine.push(/** @type {any} */ (slot))
    return { magazine, slots }
  }

  /** @param {any} first */
  function seatsFrom(first) {
    const rows = []
    for (let slot = first; slot !== null; slot = slot.next) rows.push(slot.row)
    return rows
  }

  test('gives up the coldest', () => {
    const { magazine } = filled(10)
    assert.deepEqual(seatsFrom(magazine.cut(3)), [2, 1, 0])
    assert.deepEqual(seatsFrom(magazine.stack), [9, 8, 7, 6, 5, 4, 3])
    assert.equal(magazine.count, 7)
    assert.deepEqual(seatsFrom(magazine.cut(7)), [9, 8, 7, 6, 5, 4, 3])
    assert.deepEqual([magazine.count, magazine.stack], [0, null])
  })

  test('gives up one slot and looks at few, however many it has', () => {
    const { magazine, slots } = filled(10_000)
    let looks = 0
    for (const slot of slots) {
      let { next } = /** @type {any} */ (slot)
      Object.defineProperty(slot, 'next', {
        get() {
          looks++
          return next
        },
        set(value) {
          next = value
        }
      })
    }
    for (let i = 0; i < 100; i++) {
      const cut = magazine.cut(1)
      assert.ok(cut !== null && cut.next === null)
    }
    assert.equal(magazine.count, 9900)
    assert.ok(looks < 1000, `${looks} looks`)
  })
})

test('Blocks of another size find room, however many are idle in this turn', async () => {
  const pool = new BufferPool({
    maxBytes: COUNT * 64,
    onExhausted: 'throw',
    idleTimeout: Infinity
  })
  use(pool, COUNT, 64)
  // If finalizers return memory, that takes a turn.
  if (!givesAtOnce) return
  const buffers = Array.from({ length: COUNT / 2 }, (_, i) => pool.allocUnsafe(128).fill(i))
  assert.equal(pool.stats().inUseBytes, COUNT * 64)
  for (const [i, buffer] of buffers.entries()) {
    assert.ok(buffer.every((byte) => byte === (i & 255)))
    pool.release(buffer)
  }
  await balanced(pool)
})

const isGlibc =
  process.platform === 'linux' &&
  /** @type {any} */ (process.report.getReport()).header.glibcVersionRuntime !== undefined

test('The C library returns the memory of many Buffers to the operating system', {
  skip: !isGlibc || !external || isChecked
}, () => {
  runScript(`
    const fs = require('node:fs')
    const assert = require('node:assert/strict')
    const { setTimeout: sleep } = require('node:timers/promises')
    const heap = () => {
      const maps = fs.readFileSync('/proc/self/smaps', 'utf8')
      return Number(/\\[heap\\]\\n(?:.*\\n)*?Rss:\\s+(\\d+)/.exec(maps)[1]) * 1024
    }
    async function run() {
      const pool = new cistern.BufferPool({ leakSampleRate: 0 })
      let buffers = Array.from({ length: 200_000 }, () => pool.allocUnsafe(64))
      const peak = heap()
      for (const buffer of buffers) pool.release(buffer)
      buffers = null
      pool.trim()
      const deadline = performance.now() + 60_000
      while (heap() > peak / 2) {
        assert.ok(performance.now() < deadline, heap() + ' of ' + peak + ' bytes are left')
        globalThis.gc()
        await sleep(50)
      }
    }
    run()
  `)
})
