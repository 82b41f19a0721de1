'use strict'

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const { setImmediate: turn } = require('node:timers/promises')
const { BufferPool } = require('../..')
const {
  balanced,
  collectUntil,
  external,
  inEveryMode,
  isChecked,
  moves,
  runScript,
  settle
} = require('../support/helpers')

const KIB = 1024
const MIB = 1024 * KIB

/** Returns the resident memory of this process, in bytes. */
const rss = () => process.memoryUsage.rss()

describe('stats', () => {
  test('is a plain frozen snapshot', () => {
    const pool = new BufferPool({ name: 'mine' })
    const before = pool.stats()
    assert.equal(before.name, 'mine')
    assert.ok(Object.isFrozen(before) && Object.isFrozen(before.classes))
    assert.equal(Object.getPrototypeOf(before), Object.prototype)
    pool.allocUnsafe(10)
    assert.equal(before.allocCount, 0)
    assert.equal(pool.stats().allocCount, 1)
    assert.ok(Object.isFrozen(pool.stats().classes[0]))
  })

  test(
    'counts what was asked for and what was given',
    inEveryMode(async (pool) => {
      const buffers = [100, 200, 70 * KIB].map((size) => pool.allocUnsafe(size))
      let stats = await balanced(pool)
      assert.equal(stats.inUseCount, 3)
      assert.equal(stats.inUseBytes, 128 + 256 + 80 * KIB)
      assert.equal(stats.allocBytes, 300 + 70 * KIB)
      assert.equal(stats.peakInUseBytes, stats.inUseBytes)
      assert.deepEqual(
        stats.classes.map(({ blockSize, inUseCount }) => [blockSize, inUseCount]),
        [
          [128, 1],
          [256, 1],
          [80 * KIB, 1]
        ]
      )
      for (const buffer of buffers) pool.release(buffer)
      stats = await balanced(pool)
      assert.equal(stats.inUseBytes, 0)
      assert.equal(stats.idleCount, 3)
      assert.equal(stats.idleBytes, 128 + 256 + 80 * KIB)
      assert.equal(stats.releaseCount, 3)
      assert.equal(stats.peakInUseBytes, 128 + 256 + 80 * KIB)
      pool.release(pool.allocUnsafe(10))
      assert.equal(pool.stats().peakInUseBytes, 128 + 256 + 80 * KIB, 'the peak stays')
    })
  )

  test('knows the peak in spite of leases that were collected', async () => {
    const pool = new BufferPool()
    for (let i = 0; i < 10; i++) pool.allocUnsafe(MIB)
    await collectUntil(() => pool.stats().inUseCount === 0, 'all ten are back')
    const buffers = Array.from({ length: 3 }, () => pool.allocUnsafe(MIB))
    assert.equal(pool.stats().peakInUseBytes, 10 * MIB)
    assert.equal(pool.stats().inUseBytes, 3 * MIB)
    for (const buffer of buffers) pool.release(buffer)
  })
})

describe('a dropped Buffer', () => {
  test(
    'comes back through the garbage collector',
    inEveryMode(async (pool) => {
      for (let i = 0; i < 100; i++) pool.allocUnsafe(1000)
      assert.equal(pool.stats().inUseCount, 100)
      await collectUntil(() => pool.stats().collectedCount === 100, 'all hundred are back')
      const stats = await balanced(pool)
      assert.equal(stats.inUseCount, 0)
      assert.equal(stats.idleCount, external ? 100 : 0)
      assert.equal(stats.discardCount, external ? 0 : 100)
      assert.equal(stats.releaseCount, 0)
      if (!external) return
      const fresh = stats.freshCount
      for (let i = 0; i < 100; i++) pool.allocUnsafe(1000)
      assert.equal(pool.stats().freshCount, fresh, 'their blocks are used again')
    })
  )

  test('does not return to the pool while a view of it lives', async () => {
    const pool = new BufferPool()
    const view = pool.allocUnsafe(1000).fill(4).subarray(500, 501)
    for (let i = 0; i < 5; i++) {
      globalThis.gc()
      await turn()
    }
    assert.equal(pool.stats().inUseCount, 1)
    pool.allocUnsafe(1000).fill(5)
    assert.equal(view[0], 4)
  })

  test('outlives its pool', async () => {
    const buffer = (() => new BufferPool().allocUnsafe(1000).fill(4))()
    for (let i = 0; i < 5; i++) {
      globalThis.gc()
      await turn()
    }
    assert.ok(buffer.every((byte) => byte === 4))
  })
})

describe('a pool that is dropped', () => {
  test('gives its memory back', { skip: isChecked }, async () => {
    for (let i = 0; i < 20; i++) {
      const pool = new BufferPool({ detachOnRelease: i % 2 === 0 })
      const buffers = Array.from({ length: 8 }, () => pool.allocUnsafe(MIB).fill(1))
      for (const buffer of buffers) pool.release(buffer)
      if (i % 3 === 0) pool.allocUnsafe(MIB).fill(1)
    }
    // V8's allocator may keep what V8 has freed.
    const used = () => (external ? rss() : process.memoryUsage().arrayBuffers)
    await collectUntil(() => used() < 160 * MIB, 'memory falls below 160 MiB')
  })
})

describe('the magazines', () => {
  test('are bounded from one turn to the next, and flush to the depot', {
    skip: !moves || !external
  }, async () => {
    const pool = new BufferPool()
    const leaseAll = () => Array.from({ length: 1000 }, () => pool.allocUnsafe(4096))
    for (const buffer of leaseAll()) pool.release(buffer)
    const fresh = pool.stats().freshCount
    for (const buffer of leaseAll()) pool.release(buffer)
    assert.equal(pool.stats().freshCount, fresh, 'within the turn nothing is given up')
    await settle()
    const stats = await balanced(pool)
    assert.equal(stats.idleCount, 1000)
    for (const buffer of leaseAll()) pool.release(buffer)
    assert.equal(pool.stats().freshCount, fresh, 'what was flushed is fetched again')
  })

  test(
    'do not grow in a loop that never yields',
    inEveryMode((pool, { detachOnRelease }) => {
      if (!moves && detachOnRelease !== false) return
      for (let i = 0; i < 20; i++) {
        const buffers = Array.from({ length: 600 }, () => pool.allocUnsafe(8 * KIB))
        for (const buffer of buffers) pool.release(buffer)
      }
      assert.equal(pool.stats().freshCount, 600)
    })
  )
})

describe('trim', () => {
  test(
    'frees what is idle, and says how much',
    inEveryMode(async (pool) => {
      const buffers = [100, 5000, 70 * KIB, MIB].map((size) => pool.allocUnsafe(size))
      const leased = pool.allocUnsafe(2000).fill(8)
      for (const buffer of buffers) pool.release(buffer)
      await settle()
      const { idleBytes } = pool.stats()
      assert.equal(idleBytes, 128 + 5120 + 80 * KIB + MIB)
      assert.equal(pool.trim(), idleBytes)
      assert.equal(pool.stats().idleBytes, 0)
      assert.equal(pool.stats().freedBytes, idleBytes)
      assert.equal(pool.trim(), 0)
      await balanced(pool)
      assert.equal(pool.stats().freedBytes, idleBytes)
      assert.ok(leased.every((byte) => byte === 8))
      pool.release(leased)
      assert.equal(pool.allocUnsafe(100).length, 100)
    })
  )

  test(
    'keeps as much as it is told to',
    inEveryMode(async (pool) => {
      const buffers = Array.from({ length: 10 }, () => pool.allocUnsafe(MIB))
      for (const buffer of buffers) pool.release(buffer)
      await settle()
      assert.equal(pool.trim(10 * MIB), 0)
      assert.equal(pool.trim(Infinity), 0)
      assert.equal(pool.trim(4 * MIB), 6 * MIB)
      assert.equal(pool.stats().idleBytes, 4 * MIB)
      await balanced(pool)
      assert.equal(pool.trim(0), 4 * MIB)
    })
  )

  test('lowers resident memory', { skip: isChecked }, () => {
    const output = runScript(`
      const rss = () => Math.round(process.memoryUsage.rss() / 1024 / 1024)
      const pool = new cistern.BufferPool()
      const before = rss()
      const buffers = Array.from({ length: 50 }, () => pool.allocUnsafe(4 * 1024 * 1024).fill(1))
      const full = rss()
      for (const buffer of buffers) pool.release(buffer)
      setImmediate(() => {
        pool.trim()
        const deadline = performance.now() + 60_000
        const look = setInterval(() => {
          const isBack = full - rss() >= (full - before) * 0.9
          if (!isBack && performance.now() < deadline) return
          clearInterval(look)
          console.log(full - before, full - rss())
        }, 20)
      })
    `)
    const [rise, fall] = output.split(' ').map(Number)
    assert.ok(rise >= 195, `200 MiB filled raised resident memory by ${rise} MiB`)
    assert.ok(fall >= rise * 0.9, `of ${rise} MiB, ${fall} came back`)
  })

  test('refuses what is no number of bytes', () => {
    const pool = new BufferPool()
    for (const value of ['1', null, {}, 1n]) {
      assert.throws(() => pool.trim(value), { code: 'ERR_INVALID_ARG_TYPE', message: /keepBytes/ })
    }
    for (const value of [-1, NaN, -Infinity]) {
      assert.throws(() => pool.trim(value), { code: 'ERR_OUT_OF_RANGE', message: /keepBytes/ })
    }
  })
})

describe('close', () => {
  test(
    'ends leasing, frees what is idle, leaves what is leased',
    inEveryMode(async (pool) => {
      const [idle, leased, dropped] = [100, 5000, 70 * KIB].map((size) => pool.allocUnsafe(size))
      dropped.fill(1)
      pool.release(idle)
      leased.fill(3)
      pool.close()
      pool.close()
      for (const call of [
        () => pool.allocUnsafe(1),
        () => pool.allocUnsafe(0),
        () => pool.alloc(1),
        () => pool.alloc(1, 'x'),
        () => pool.allocUnsafe(100 * MIB),
        () => pool.lease(1)
      ]) {
        assert.throws(call, { name: 'Error', code: 'ERR_CISTERN_CLOSED', message: /'pool'/ })
      }
      assert.ok(leased.every((byte) => byte === 3))
      assert.ok(pool.owns(leased))
      pool.release(leased)
      assert.throws(() => pool.release(leased), { code: 'ERR_CISTERN_ALREADY_RELEASED' })
      assert.throws(() => pool.release(Buffer.alloc(1)), { code: 'ERR_CISTERN_NOT_POOLED' })
      pool.release(dropped)
      const stats = await balanced(pool)
      assert.equal(stats.idleBytes, 0)
      assert.equal(stats.inUseBytes, 0)
      assert.equal(stats.freedBytes, stats.freshBytes)
      assert.equal(pool.trim(), 0)
    })
  )

  test('frees a dropped Buffer when it is collected', async () => {
    const pool = new BufferPool()
    pool.allocUnsafe(MIB)
    pool.close()
    await collectUntil(() => pool.stats().freedBytes === MIB, 'the block is freed')
    await balanced(pool)
  })
})

describe('the operating system', () => {
  test('may refuse memory, with nothing lost', { skip: process.platform !== 'linux' }, () => {
    const output = runScript(`
      const { execFileSync } = require('node:child_process')
      const pool = new cistern.BufferPool()
      const kept = pool.allocUnsafe(1000).fill(7)
      const size = Number(require('node:fs').readFileSync('/proc/self/statm', 'utf8').split(' ')[0])
      execFileSync('prlimit', ['--pid', process.pid, '--as=' + (size * 4096 + 200 * 1024 * 1024)])
      const buffers = []
      let error
      try {
        for (;;) buffers.push(pool.allocUnsafe(32 * 1024 * 1024))
      } catch (caught) {
        error = caught
      }
      const { inUseCount, freshBytes, inUseBytes, freedBytes } = pool.stats()
      const sound = inUseCount === buffers.length + 1 && freshBytes === inUseBytes + freedBytes
      pool.release(buffers.pop())
      setTimeout(() => {
        const again = pool.allocUnsafe(32 * 1024 * 1024)
        console.log(error.code, sound, again.length, kept.every((byte) => byte === 7))
      }, 50)
    `)
    assert.equal(output.trim(), 'ERR_MEMORY_ALLOCATION_FAILED true 33554432 true')
  })
})

describe('the process', () => {
  test('is not kept alive by a pool or an unreleased Buffer', () => {
    const output = runScript(`
      const pool = new cistern.BufferPool()
      const leased = pool.allocUnsafe(1000)
      const buffers = Array.from({ length: 1000 }, () => cistern.shared.allocUnsafe(4096))
      for (const buffer of buffers) cistern.shared.release(buffer)
      process.on('exit', () => console.log('exit'))
    `)
    assert.equal(output.trim(), 'exit')
  })

  test('ends well in the middle of everything', () => {
    for (const end of ['process.exit(0)', 'process.reallyExit(0)', 'void 0']) {
      runScript(`
        for (const detachOnRelease of [true, false]) {
          const pool = new cistern.BufferPool({ detachOnRelease })
          const held = Array.from({ length: 500 }, (_, i) => pool.allocUnsafe(i * 100))
          for (let i = 0; i < 400; i++) pool.release(held[i])
          globalThis.kept = [globalThis.kept, held, pool]
          pool.trim(1000)
          globalThis.gc()
        }
        ${end}
      `)
    }
  })
})
