'use strict'

/** A pool that several threads are attached to is one pool, whichever thread asks. */

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const { BufferPool, shared } = require('../..')
const { balanced, endsShow, eventually, external, posts, settle } = require('../support/helpers')
const { STALE, gone, handleOfDropped, invalid, startThread } = require('../support/handles')

const CLOSED = { name: 'Error', code: 'ERR_CISTERN_CLOSED' }

describe('a pool that is attached', () => {
  test('is one object in its thread, however often', async () => {
    const pool = new BufferPool()
    const thread = startThread(pool.handle)
    const attachAgain = ({ pool, BufferPool }, handles) =>
      handles.every((handle) => BufferPool.attach(handle) === pool) && pool instanceof BufferPool
    const handles = [pool.handle, { ...pool.handle, name: '' }]
    assert.equal(await thread.run(attachAgain, handles), true)
    assert.deepEqual(await thread.run(({ pool }) => pool.handle), pool.handle)
    await thread.terminate()
  })

  test('is the shared one in a thread that has that', async () => {
    const thread = startThread()
    const isShared = ({ BufferPool, shared }, handle) => BufferPool.attach(handle) === shared
    try {
      assert.equal(await thread.run(isShared, shared.handle), true)
    } finally {
      await thread.terminate()
    }
  })

  test('has the same settings', async () => {
    const pool = new BufferPool({ name: 'été 🌊', maxBytes: 12_345_678, maxBlockSize: 5000 })
    const thread = startThread(pool.handle)
    const [name, maxBytes, handleName, unpooled] = await thread.run(({ pool }) => {
      pool.release(pool.allocUnsafe(5000))
      pool.release(pool.allocUnsafe(5001))
      const { name, maxBytes, unpooledCount } = pool.stats()
      return [name, maxBytes, pool.handle.name, unpooledCount]
    })
    assert.deepEqual([name, maxBytes, handleName], ['été 🌊', 12_345_678, 'été 🌊'])
    assert.equal(unpooled, 1, 'maxBlockSize')
    await thread.terminate()
  })

  for (const detachOnRelease of [true, false]) {
    test(`has the same way of release, detachOnRelease: ${detachOnRelease}`, async () => {
      const thread = startThread(new BufferPool({ detachOnRelease }).handle)
      const length = await thread.run(({ pool }) => {
        const buffer = pool.allocUnsafe(100)
        pool.release(buffer)
        return buffer.length
      })
      assert.equal(length, detachOnRelease ? 0 : 100)
      await thread.terminate()
    })
  }

  for (const zeroOnRelease of [true, false]) {
    test(`scrubs or not as the pool does, zeroOnRelease: ${zeroOnRelease}`, async () => {
      const thread = startThread(new BufferPool({ detachOnRelease: false, zeroOnRelease }).handle)
      const byte = await thread.run(({ pool }) => {
        const stale = pool.allocUnsafe(100).fill(7)
        pool.release(stale)
        return stale[99]
      })
      assert.equal(byte, zeroOnRelease ? 0 : 7)
      await thread.terminate()
    })
  }

  for (const onExhausted of ['throw', 'unpooled']) {
    test(`does the same at the ceiling, onExhausted: '${onExhausted}'`, async () => {
      const thread = startThread(new BufferPool({ maxBytes: 4096, onExhausted }).handle)
      const outcome = await thread.run((self) => {
        self.kept = self.pool.allocUnsafe(4096)
        try {
          self.pool.allocUnsafe(1)
        } catch (error) {
          return error.code
        }
        return self.pool.stats().unpooledCount
      })
      assert.equal(outcome, onExhausted === 'throw' ? 'ERR_CISTERN_EXHAUSTED' : 1)
      await thread.terminate()
    })
  }

  for (const idleTimeout of [0, Infinity]) {
    test(`leaves blocks idle as long, idleTimeout: ${idleTimeout}`, {
      skip: !external
    }, async () => {
      const pool = new BufferPool({ idleTimeout })
      const thread = startThread(pool.handle)
      await thread.run(({ pool }) => {
        const buffers = Array.from({ length: 4 }, () => pool.allocUnsafe(1000))
        for (const buffer of buffers) pool.release(buffer)
      })
      if (idleTimeout === 0) {
        await eventually(() => pool.stats().idleBytes === 0, 'nothing is idle', [thread])
      } else {
        await thread.collect()
        assert.equal(pool.stats().idleBytes, 4096)
      }
      await thread.terminate()
    })
  }

  for (const leakSampleRate of [1, 0]) {
    test(`samples as many leases, leakSampleRate: ${leakSampleRate}`, async () => {
      const pool = new BufferPool({ name: 'sampled', leakSampleRate })
      const thread = startThread(pool.handle)
      await thread.run((self) => {
        self.told = []
        const { subscribe } = self.require('node:diagnostics_channel')
        subscribe('cistern:leak', ({ pool, size }) => self.told.push([pool, size]))
        for (let i = 0; i < 50; i++) self.pool.allocUnsafe(1000)
      })
      await eventually(() => pool.stats().collectedCount === 50, 'all are collected', [thread])
      await thread.collect()
      const told = await thread.run((self) => self.told)
      assert.deepEqual(told, Array(leakSampleRate * 50).fill(['sampled', 1000]))
      await thread.terminate()
    })
  }

  test('has the same totals', async () => {
    const pool = new BufferPool({ name: 'booked' })
    const first = startThread(pool.handle)
    const second = startThread(pool.handle)
    const kept = [pool.allocUnsafe(3000), pool.allocUnsafe(100)]
    for (const thread of [first, second]) {
      await thread.run((self) => {
        const sizes = [70_000, 100, 3000, 3000, 0, 2 ** 26]
        self.kept = sizes.map((size) => self.pool.allocUnsafe(size))
        self.pool.release(self.kept.pop())
        self.pool.release(self.kept[0])
      })
    }
    // The overhead of the pool may change at any moment.
    const withoutCost = ({ overheadBytes, ...totals }) => totals
    const here = await balanced(pool)
    for (const thread of [first, second]) {
      const there = await thread.run(({ pool }) => pool.stats())
      assert.deepEqual(withoutCost(there), withoutCost(here))
    }
    assert.equal(here.allocCount, 14)
    assert.equal(here.allocBytes, 3100 + 2 * (76_100 + 2 ** 26))
    assert.equal(here.unpooledCount, 4)
    assert.equal(here.releaseCount, 4)
    assert.equal(here.inUseCount, 8)
    for (const buffer of kept) pool.release(buffer)
    await Promise.all([first.terminate(), second.terminate()])
  })

  test('adds up what was leased and released in threads that are gone', async () => {
    const pool = new BufferPool()
    for (let round = 1; round <= 3; round++) {
      const some = [startThread(pool.handle), startThread(pool.handle)]
      await Promise.all(
        some.map((thread) =>
          thread.run(({ pool }) => {
            for (let i = 0; i < 1000; i++) pool.release(pool.allocUnsafe(1 + i))
          })
        )
      )
      await Promise.all(some.map((thread) => thread.terminate()))
      pool.release(pool.allocUnsafe(1))
      const { allocCount, allocBytes, releaseCount } = await balanced(pool)
      assert.equal(allocCount, round * 2001)
      assert.equal(allocBytes, round * (2 * 500_500 + 1))
      assert.equal(releaseCount, round * 2001)
    }
  })

  test('has a peak no lower than what is leased in another thread', async () => {
    const pool = new BufferPool()
    const thread = startThread(pool.handle)
    await thread.run((self) => {
      self.kept = self.pool.allocUnsafe(64)
    })
    assert.equal(pool.stats().peakInUseBytes, 64)
    pool.release(pool.allocUnsafe(128))
    assert.equal(pool.stats().peakInUseBytes, 64 + 128, 'both were leased at a time')
    await thread.run(({ pool, kept }) => pool.release(kept))
    await thread.terminate()
    await balanced(pool)
  })

  test('has a peak that is the sum of the threads’ peaks, and stays', async () => {
    const pool = new BufferPool()
    // If release gives the block back, at most the last thread's four were ever lent at a time.
    const peak = (posts ? 2 + 3 + 4 : 4) * 65_536
    const some = [startThread(pool.handle), startThread(pool.handle)]
    const leaseAndRelease = (count) => {
      const buffers = Array.from({ length: count }, () => pool.allocUnsafe(65_536))
      for (const buffer of buffers) pool.release(buffer)
    }
    leaseAndRelease(2)
    assert.equal(pool.stats().peakInUseBytes, 2 * 65_536)
    await settle()
    for (const [i, thread] of some.entries()) {
      await thread.run(async ({ pool }, count) => {
        const buffers = Array.from({ length: count }, () => pool.allocUnsafe(65_536))
        for (const buffer of buffers) pool.release(buffer)
        // Where finalizers give the blocks back, these run now.
        for (let turns = 0; turns < 5; turns++) await new Promise(setImmediate)
      }, 3 + i)
    }
    assert.equal(pool.stats().peakInUseBytes, peak)
    await Promise.all(some.map((thread) => thread.terminate()))
    assert.equal(pool.stats().peakInUseBytes, peak)
    leaseAndRelease(1)
    assert.equal(pool.stats().peakInUseBytes, peak)
    await balanced(pool)
  })

  test('has one ceiling for all', async () => {
    const pool = new BufferPool({ maxBytes: 4 * 65_536, onExhausted: 'throw' })
    const thread = startThread(pool.handle)
    const kept = Array.from({ length: 3 }, () => pool.allocUnsafe(65_536))
    const leased = await thread.run((self) => {
      self.kept = []
      try {
        while (self.kept.length < 10) self.kept.push(self.pool.allocUnsafe(65_536))
      } catch (error) {
        return [self.kept.length, error.code]
      }
    })
    assert.deepEqual(leased, [1, 'ERR_CISTERN_EXHAUSTED'])
    assert.throws(() => pool.allocUnsafe(65_536), { code: 'ERR_CISTERN_EXHAUSTED' })
    const waiting = pool.acquire(65_536)
    await thread.run((self) => self.pool.release(self.kept.pop()))
    const buffer = await waiting
    for (const each of [buffer, ...kept]) pool.release(each)
    const { inUseCount, waitCount } = await balanced(pool)
    assert.deepEqual([inUseCount, waitCount], [0, 1])
    await thread.terminate()
  })

  test('does not take a copy for a lease of another thread', async () => {
    const pool = new BufferPool()
    const thread = startThread(pool.handle)
    const buffer = pool.allocUnsafe(1000).fill(5)
    const tryIt = ({ pool }, copy) => {
      const owned = pool.owns(copy)
      try {
        pool.release(copy)
      } catch (error) {
        return [owned, error.code, copy.length]
      }
    }
    assert.deepEqual(await thread.run(tryIt, buffer), [false, 'ERR_CISTERN_NOT_POOLED', 1000])
    assert.ok(pool.owns(buffer))
    assert.ok(buffer.every((byte) => byte === 5))
    pool.release(buffer)
    await thread.terminate()
  })
})

describe('a block that is released in one thread', { skip: !external }, () => {
  for (const detachOnRelease of [true, false]) {
    const mode = `detachOnRelease: ${detachOnRelease}`

    test(`is leased in another when the thread has ended, ${mode}`, async () => {
      const pool = new BufferPool({ detachOnRelease })
      const thread = startThread(pool.handle)
      await thread.run(({ pool }) => {
        const buffers = Array.from({ length: 20 }, () => pool.allocUnsafe(200_000).fill(1))
        for (const buffer of buffers) pool.release(buffer)
      })
      await thread.terminate()
      // Views of these may be left, and only a witness shows that there are none.
      const isSetAside = !detachOnRelease && !endsShow
      if (!isSetAside) {
        await eventually(() => pool.stats().quarantinedBytes === 0, 'no view of theirs is left')
      }
      const { freshBytes, freshCount, quarantinedBytes } = await balanced(pool)
      assert.deepEqual([freshCount, quarantinedBytes], [20, isSetAside ? freshBytes : 0])
      const buffers = Array.from({ length: 20 }, () => pool.allocUnsafe(200_000))
      assert.equal(pool.stats().freshCount, isSetAside ? 40 : 20)
      for (const buffer of buffers) pool.release(buffer)
    })

    test(`is leased in another that needs it, while both live, ${mode}`, async () => {
      const pool = new BufferPool({ detachOnRelease, maxBytes: 10 * 65_536 })
      const thread = startThread(pool.handle)
      const leaseAll = async ({ pool }) => {
        const buffers = await Promise.all(Array.from({ length: 10 }, () => pool.acquire(65_536)))
        for (const [i, buffer] of buffers.entries()) buffer.fill(i)
        const intact = buffers.every((buffer, i) => buffer.every((byte) => byte === i))
        for (const buffer of buffers) pool.release(buffer)
        return intact
      }
      for (let round = 0; round < 10; round++) {
        assert.ok(await leaseAll({ pool }))
        assert.ok(await thread.run(leaseAll))
      }
      const { allocCount, freshCount, releaseCount } = await balanced(pool)
      assert.deepEqual([allocCount, releaseCount], [200, 200])
      // A block that returns just as a fresh one is allocated may have to be freed for it.
      assert.ok(freshCount < 50, `${freshCount} blocks for 200 leases`)
      await thread.terminate()
    })
  }
})

describe('close', () => {
  test('in one thread closes the pool in all', async () => {
    const pool = new BufferPool({ name: 'shut', maxBytes: 65_536 })
    const [closer, other] = [startThread(pool.handle), startThread(pool.handle)]
    const kept = pool.allocUnsafe(65_536).fill(3)
    const waiting = [
      pool.acquire(65_536),
      other.run(({ pool }) => pool.acquire(65_536)),
      closer.run(({ pool }) => pool.acquire(65_536))
    ]
    const outcomes = []
    for (const promise of waiting) {
      const note = (outcome) => outcomes.push(outcome?.code ?? outcome)
      promise.then(note, note)
    }
    await eventually(() => pool.stats().waitCount === 3, 'all three wait')
    await closer.run(({ pool }) => pool.close())
    await eventually(() => outcomes.length === 3, 'nobody waits any more')
    assert.deepEqual(outcomes, Array(3).fill('ERR_CISTERN_CLOSED'))
    const tryAll = async ({ pool }) => {
      const calls = [
        () => pool.allocUnsafe(1),
        () => pool.alloc(1),
        () => pool.lease(1),
        () => pool.acquire(1),
        () => pool.allocUnsafe(0),
        () => pool.allocUnsafe(2 ** 26)
      ]
      const codes = new Set()
      for (const call of calls) {
        codes.add(
          await Promise.resolve()
            .then(call)
            .then(
              () => 'leased',
              ({ code }) => code
            )
        )
      }
      return [...codes]
    }
    for (const codes of [
      await tryAll({ pool }),
      await other.run(tryAll),
      await closer.run(tryAll)
    ]) {
      assert.deepEqual(codes, ['ERR_CISTERN_CLOSED'])
    }
    assert.ok(pool.owns(kept))
    assert.ok(kept.every((byte) => byte === 3))
    pool.release(kept)
    await eventually(() => pool.stats().freedBytes === 65_536, 'all of it is freed', [other])
    await balanced(pool)
    await Promise.all([closer.terminate(), other.terminate()])
  })

  test('frees what is idle in all threads', async () => {
    const pool = new BufferPool()
    const thread = startThread(pool.handle)
    const fill = ({ pool }) => {
      const buffers = Array.from({ length: 5 }, () => pool.allocUnsafe(65_536))
      for (const buffer of buffers) pool.release(buffer)
    }
    fill({ pool })
    await thread.run(fill)
    assert.equal(pool.stats().freedBytes, 0)
    pool.close()
    await eventually(() => pool.stats().idleBytes === 0, 'nothing is idle', [thread])
    const { freedBytes, freshBytes } = await balanced(pool)
    assert.equal(freedBytes, freshBytes)
    await thread.terminate()
  })

  test('refuses later requests', async () => {
    const pool = new BufferPool({ name: 'shut' })
    const thread = startThread()
    pool.close()
    const attach = ({ BufferPool }, handle) => void BufferPool.attach(handle)
    for (let i = 0; i < 3; i++) {
      await assert.rejects(thread.run(attach, pool.handle), { ...CLOSED, message: /'shut'/ })
    }
    await thread.terminate()
  })
})

describe('a pool that only a worker has', () => {
  test('lives on, and can be attached to again', async () => {
    const thread = startThread()
    const handle = await handleOfDropped(async (pool) => {
      for (let i = 0; i < 10; i++) pool.release(pool.allocUnsafe(1000))
      await thread.run((self, handle) => {
        self.pool = self.BufferPool.attach(handle)
        self.kept = self.pool.allocUnsafe(5000).fill(9)
      }, pool.handle)
    })
    for (let i = 0; i < 3; i++) {
      globalThis.gc()
      await settle()
    }
    await thread.run(({ pool }) => {
      for (let i = 0; i < 10; i++) pool.release(pool.allocUnsafe(1000))
    })
    let again = BufferPool.attach(handle)
    assert.equal(BufferPool.attach(handle), again)
    const { allocCount, releaseCount, inUseCount } = await balanced(again)
    assert.deepEqual([allocCount, releaseCount, inUseCount], [21, 20, 1])
    assert.ok(await thread.run(({ kept }) => kept.every((byte) => byte === 9)))
    again = undefined
    await thread.terminate()
    await gone(handle)
    assert.throws(() => BufferPool.attach(handle), invalid(STALE), 'with the worker, the pool')
  })
})
