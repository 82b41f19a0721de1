'use strict'

/**
 * Handles: how other threads get to a pool, and who doesn't.
 *
 * What must hold: a handle leads to its own pool or to a documented error, whatever became of it on
 * its way; and a pool is one pool, whichever thread asks.
 */

const assert = require('node:assert/strict')
const { fork } = require('node:child_process')
const { once } = require('node:events')
const path = require('node:path')
const { after, describe, test } = require('node:test')
const v8 = require('node:v8')
const { Worker } = require('node:worker_threads')
const fc = require('fast-check')
const { BufferPool, shared } = require('../..')
const {
  balanced,
  endsShow,
  eventually,
  external,
  posts,
  runScript,
  settle
} = require('../support/helpers')
const { Thread } = require('../support/thread')

const ENTRY = JSON.stringify(path.join(__dirname, '..', '..'))

/** Digits of a key: of the process, of the pool, and of the proof that cistern has made it. */
const KEY_DIGITS = 48
const PROCESS_DIGITS = 16

const INVALID_ARG_TYPE = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"handle"/ }
const CLOSED = { name: 'Error', code: 'ERR_CISTERN_CLOSED' }

const NO_HANDLE = 'it is no handle'
const FOREIGN = 'it was made in another process, or by another copy of cistern in this one'
const FORGED = 'it was not made by cistern'
const STALE = 'its pool is gone: no thread has it any more'

/** @param {string} reason */
const invalid = (reason) => ({
  name: 'TypeError',
  code: 'ERR_CISTERN_INVALID_HANDLE',
  message: new RegExp(`^The "handle" argument .*: ${reason}\\. Received`)
})

/** @type {Set<Thread>} */
const threads = new Set()

/**
 * A thread that ends with this file, if not before.
 *
 * @param {import('../..').PoolHandle} [handle]
 */
function startThread(handle) {
  const thread = new Thread(handle)
  threads.add(thread)
  return thread
}

after(() => Promise.all([...threads].map((thread) => thread.terminate())))

/**
 * The handle of a pool that this thread has dropped.
 *
 * @param {(pool: BufferPool) => unknown} [use] before it does
 */
async function handleOfDropped(use = () => {}) {
  // In a function of its own: a suspended one keeps what it has passed on.
  const drop = () => {
    const pool = new BufferPool()
    return { handle: pool.handle, witness: new WeakRef(pool), used: use(pool) }
  }
  const { handle, witness, used } = drop()
  await used
  await eventually(() => witness.deref() === undefined, 'the pool is collected')
  return handle
}

/**
 * Waits until a handle's pool is gone.
 *
 * @param {import('../..').PoolHandle} handle
 */
async function gone(handle) {
  await eventually(() => {
    try {
      // Dropped again at once.
      BufferPool.attach(handle)
    } catch {
      return true
    }
    return false
  }, 'the pool is gone')
}

describe('a handle', () => {
  test('is plain and frozen, and the same each time', () => {
    const [pool, other] = [new BufferPool({ name: 'mine' }), new BufferPool({ name: 'mine' })]
    const { handle } = pool
    assert.equal(Object.getPrototypeOf(handle), Object.prototype)
    assert.ok(Object.isFrozen(handle))
    assert.deepEqual(Object.keys(handle), ['type', 'name', 'key'])
    assert.equal(handle.type, 'cistern.pool')
    assert.equal(handle.name, 'mine')
    assert.match(handle.key, new RegExp(`^[0-9a-f]{${KEY_DIGITS}}$`))
    assert.deepEqual(pool.handle, handle)
    assert.notEqual(other.handle.key, handle.key)
    assert.throws(() => {
      pool.handle = handle
    }, TypeError)
  })

  test('leads to the very same object in the thread where its pool is at home', () => {
    const pool = new BufferPool()
    const { handle } = pool
    const copies = [
      handle,
      pool.handle,
      structuredClone(handle),
      structuredClone({ deep: [{ handle }] }).deep[0].handle,
      JSON.parse(JSON.stringify(handle)),
      v8.deserialize(v8.serialize(handle)),
      { ...handle, name: 'another', more: 1 },
      Object.assign(Object.create(null), handle)
    ]
    for (const copy of copies) assert.equal(BufferPool.attach(copy), pool)
    assert.equal(BufferPool.attach(shared.handle), shared)
  })

  test('goes by workerData, by message, in what it is nested in, and as JSON', async () => {
    const pool = new BufferPool()
    const { handle } = pool
    const worker = new Worker(
      `
      const { parentPort, workerData } = require('node:worker_threads')
      const { BufferPool } = require(${ENTRY})
      parentPort.once('message', ({ plain, nested, inMap, json }) => {
        const handles = [workerData, plain, nested[0].handle, inMap.get('handle'), JSON.parse(json)]
        const pools = handles.map((handle) => BufferPool.attach(handle))
        pools.forEach((pool, i) => pool.release(pool.allocUnsafe(100 + i)))
        parentPort.postMessage([new Set(pools).size, pools[0].handle, pools[0].stats().allocBytes])
      })
      `,
      { eval: true, workerData: handle }
    )
    worker.postMessage({
      plain: handle,
      nested: [{ handle }],
      inMap: new Map([['handle', handle]]),
      json: JSON.stringify(handle)
    })
    const [[answer]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    assert.deepEqual(answer, [1, handle, 100 + 101 + 102 + 103 + 104])
    assert.equal(pool.stats().allocCount, 5)
    await balanced(pool)
  })

  test('goes on from worker to worker, and home again', async () => {
    const pool = new BufferPool({ name: 'far' })
    const source = `
      const { parentPort, Worker, workerData } = require('node:worker_threads')
      const { BufferPool } = require(${ENTRY})
      const { depth, handle, source } = workerData
      const pool = BufferPool.attach(handle)
      const buffer = pool.allocUnsafe(1000 * depth)
      if (depth === 4) {
        parentPort.postMessage(pool.handle)
        pool.release(buffer)
      } else {
        const data = { depth: depth + 1, handle: pool.handle, source }
        const child = new Worker(source, { eval: true, workerData: data })
        child.once('message', (handle) => parentPort.postMessage(handle))
        child.once('exit', () => pool.release(buffer))
      }
    `
    const workerData = { depth: 1, handle: pool.handle, source }
    const worker = new Worker(source, { eval: true, workerData })
    const [[handle]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    assert.deepEqual(handle, pool.handle)
    assert.equal(BufferPool.attach(handle), pool)
    const { allocCount, allocBytes, releaseCount, inUseCount } = await balanced(pool)
    assert.deepEqual([allocCount, allocBytes, releaseCount, inUseCount], [4, 10_000, 4, 0])
  })

  test('keeps no pool alive, and neither does a thread that only has the handle', async () => {
    const thread = startThread()
    const handle = await handleOfDropped(async (pool) => {
      pool.release(pool.allocUnsafe(1000))
      await thread.run((self, handle) => {
        self.kept = handle
      }, pool.handle)
    })
    await gone(handle)
    await assert.rejects(
      thread.run(({ BufferPool, kept }) => BufferPool.attach(kept)),
      invalid(STALE)
    )
    await thread.terminate()
  })

  test('leads to a pool that is held by nothing but a leased Buffer', async () => {
    let buffer
    const handle = await (() => {
      const pool = new BufferPool({ name: 'held' })
      buffer = pool.allocUnsafe(1000).fill(4)
      return pool.handle
    })()
    for (let i = 0; i < 5; i++) {
      globalThis.gc()
      await settle()
    }
    const pool = BufferPool.attach(handle)
    assert.ok(pool.owns(buffer))
    assert.ok(buffer.every((byte) => byte === 4))
    pool.release(buffer)
    const { releaseCount, inUseCount } = await balanced(pool)
    assert.deepEqual([releaseCount, inUseCount], [1, 0])
  })
})

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
    test(`keeps what is idle as long, idleTimeout: ${idleTimeout}`, {
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

  test('has the same books', async () => {
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
    // What the pool costs besides its blocks may change at any moment.
    const withoutCost = ({ overheadBytes, ...books }) => books
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
    // Where release gives the block back, no more than the last thread's four were ever lent at a time.
    const peak = (posts ? 2 + 3 + 4 : 4) * 65_536
    const some = [startThread(pool.handle), startThread(pool.handle)]
    const leaseAndRelease = (count) => {
      const buffers = Array.from({ length: count }, () => pool.allocUnsafe(65_536))
      for (const buffer of buffers) pool.release(buffer)
    }
    leaseAndRelease(2)
    assert.equal(pool.stats().peakInUseBytes, 2 * 65_536)
    for (const [i, thread] of some.entries()) {
      await thread.run(({ pool }, count) => {
        const buffers = Array.from({ length: count }, () => pool.allocUnsafe(65_536))
        for (const buffer of buffers) pool.release(buffer)
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
      // Views of these may be left, and only a witness tells that there are none.
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
      // A block that comes just when another is got may have to give way to that.
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

  test('refuses who comes later', async () => {
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

describe('attach', () => {
  const pool = new BufferPool({ name: 'mine' })
  const { handle } = pool
  const { key } = handle
  const before = pool.stats()

  after(() => assert.deepEqual(pool.stats(), before, 'no attempt has left a trace'))

  test('refuses what is no object', () => {
    for (const value of [undefined, null, 0, 5n, '', key, true, Symbol('handle'), () => {}]) {
      assert.throws(() => BufferPool.attach(value), INVALID_ARG_TYPE)
    }
    assert.throws(() => BufferPool.attach(), INVALID_ARG_TYPE)
  })

  test('refuses what has another shape', () => {
    const wrong = [
      {},
      [],
      [handle],
      { handle },
      { key },
      { type: 'cistern.pool' },
      { ...handle, type: 'cistern.Pool' },
      { ...handle, type: undefined },
      { ...handle, type: Object('cistern.pool') },
      { ...handle, key: undefined },
      { ...handle, key: 5 },
      { ...handle, key: [key] },
      { ...handle, key: Object(key) },
      { ...handle, key: Buffer.from(key, 'hex') },
      new Map(Object.entries(handle)),
      Buffer.from(key, 'hex'),
      new Date(),
      /key/,
      pool
    ]
    for (const value of wrong) assert.throws(() => BufferPool.attach(value), invalid(NO_HANDLE))
  })

  const malformed = {
    empty: '',
    'of one digit': '0',
    'short of a digit': key.slice(1),
    'short of two digits': key.slice(2),
    'with a digit more': `${key}0`,
    'with two digits more': `${key}00`,
    'with a digit more in front': `0${key}`,
    doubled: key + key,
    'with a space': ` ${key}`,
    'with a line break': `${key}\n`,
    'with a zero byte': `${key.slice(1)}\0`,
    'that is no number': 'g'.repeat(KEY_DIGITS),
    'with signs': '+f'.repeat(KEY_DIGITS / 2),
    'with a prefix': `0x${key.slice(2)}`,
    'with a wide digit': `${key.slice(1)}\uff11`,
    'with half a character': `${key.slice(1)}\ud800`,
    'that is very long': key.repeat(50_000)
  }
  for (const [what, wrong] of Object.entries(malformed)) {
    test(`refuses a key ${what}`, () => {
      assert.throws(() => BufferPool.attach({ ...handle, key: wrong }), invalid(NO_HANDLE))
    })
  }

  test('refuses a key with any digit changed', () => {
    for (let at = 0; at < KEY_DIGITS; at++) {
      for (const digit of '0123456789abcdef') {
        if (digit === key[at]) continue
        const wrong = { ...handle, key: key.slice(0, at) + digit + key.slice(at + 1) }
        const reason = at < PROCESS_DIGITS ? FOREIGN : FORGED
        assert.throws(() => BufferPool.attach(wrong), invalid(reason), `digit ${at}: ${digit}`)
      }
    }
  })

  test('refuses one pool’s number with another’s proof', () => {
    const other = new BufferPool().handle.key
    const mixed = key.slice(0, 32) + other.slice(32)
    assert.throws(() => BufferPool.attach({ ...handle, key: mixed }), invalid(FORGED))
    assert.throws(() => BufferPool.attach({ ...handle, key: '0'.repeat(48) }), invalid(FOREIGN))
  })

  test('leads to the same object by capital digits', () => {
    assert.equal(BufferPool.attach({ ...handle, key: key.toUpperCase() }), pool)
  })

  test('refuses the handle of another process, both ways', async () => {
    const source = `
      const { BufferPool } = require(${ENTRY})
      const pool = new BufferPool()
      process.on('message', (handle) => {
        try {
          BufferPool.attach(handle)
        } catch ({ code, message }) {
          process.send({ code, message, handle: pool.handle })
        }
      })
    `
    // Its file is not run: it has code instead.
    const child = fork(__filename, [], { execArgv: ['--eval', source] })
    try {
      child.send(handle)
      const [theirs] = await once(child, 'message')
      assert.equal(theirs.code, 'ERR_CISTERN_INVALID_HANDLE')
      assert.match(theirs.message, new RegExp(FOREIGN))
      assert.throws(() => BufferPool.attach(theirs.handle), invalid(FOREIGN))
      child.disconnect()
      await once(child, 'exit')
      assert.throws(() => BufferPool.attach(theirs.handle), invalid(FOREIGN))
    } finally {
      child.kill()
    }
  })

  test('refuses the handles that earlier processes have left', () => {
    const script =
      'console.log(JSON.stringify([new cistern.BufferPool(), cistern.shared].map((pool) => pool.handle)))'
    const [first, second] = [runScript(script), runScript(script)].map((text) => JSON.parse(text))
    assert.notDeepEqual(first, second)
    for (const left of [...first, ...second]) {
      assert.throws(() => BufferPool.attach(left), invalid(FOREIGN))
    }
  })

  test('refuses a handle whose pool is gone', async () => {
    const uses = [() => {}, (pool) => pool.release(pool.allocUnsafe(100)), (pool) => pool.close()]
    for (const use of uses) {
      const stale = await handleOfDropped(use)
      await gone(stale)
      assert.throws(() => BufferPool.attach(stale), invalid(STALE))
    }
  })

  /**
   * Asserts that a value is refused in the documented way.
   *
   * @param {unknown} value
   */
  function assertRefused(value) {
    const isObject = typeof value === 'object' && value !== null
    try {
      BufferPool.attach(value)
    } catch (error) {
      assert.equal(error.code, isObject ? 'ERR_CISTERN_INVALID_HANDLE' : 'ERR_INVALID_ARG_TYPE')
      assert.ok(error instanceof TypeError)
      assert.match(error.message, /^The "handle" argument must be /)
      return
    }
    assert.fail('attached')
  }

  test('refuses whatever else there is', () => {
    fc.assert(
      fc.property(
        fc.anything({
          withBigInt: true,
          withBoxedValues: true,
          withDate: true,
          withMap: true,
          withNullPrototype: true,
          withObjectString: true,
          withSet: true,
          withSparseArray: true,
          withTypedArray: true
        }),
        assertRefused
      ),
      { numRuns: 1000 }
    )
  })

  test('refuses whatever key there is', () => {
    const digits = fc.constantFrom(...'0123456789abcdefABCDEF')
    const anyKey = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'binary', minLength: KEY_DIGITS, maxLength: KEY_DIGITS }),
      fc.string({ unit: digits, maxLength: 200 }),
      fc.string({ unit: digits, minLength: KEY_DIGITS, maxLength: KEY_DIGITS }),
      // Of this process, and no pool's.
      fc
        .string({ unit: digits, minLength: 32, maxLength: 32 })
        .map((rest) => key.slice(0, PROCESS_DIGITS) + rest),
      fc.anything()
    )
    const extra = fc.option(fc.anything(), { nil: undefined })
    fc.assert(
      fc.property(anyKey, extra, (key, name) => assertRefused({ type: 'cistern.pool', name, key })),
      { numRuns: 2000 }
    )
  })

  test('takes a key with some of it replaced for its own only where nothing has changed', () => {
    const edit = fc.record({
      at: fc.nat({ max: KEY_DIGITS }),
      cut: fc.nat({ max: 3 }),
      put: fc.string({ unit: fc.constantFrom(...'0123456789abcdef', ...key), maxLength: 3 })
    })
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
        let edited = key
        for (const { at, cut, put } of edits) {
          edited = edited.slice(0, at) + put + edited.slice(at + cut)
        }
        if (edited === key) assert.equal(BufferPool.attach({ ...handle, key: edited }), pool)
        else assertRefused({ ...handle, key: edited })
      }),
      { numRuns: 2000 }
    )
  })

  /** Its bits, some the other way, as digits again. */
  const tampered = fc.array(fc.nat({ max: KEY_DIGITS * 4 - 1 }), { maxLength: 4 }).map((bits) => {
    const bytes = Buffer.from(key, 'hex')
    for (const bit of bits) bytes[bit >> 3] ^= 1 << (bit & 7)
    return bytes.toString('hex')
  })

  test('refuses whatever a message may bring, whatever is hung on it', () => {
    const carrier = fc.oneof(
      fc.anything({ withDate: true, withMap: true, withSet: true, withTypedArray: true }),
      fc.constantFrom(new Error('x'), /x/g, new ArrayBuffer(24), [handle], new Map([['key', key]]))
    )
    const noKey = fc.oneof(
      fc.constantFrom([key], new String(key), Buffer.from(key, 'hex'), BigInt(`0x${key}`), { key }),
      fc.anything()
    )
    fc.assert(
      fc.property(carrier, noKey, fc.boolean(), (carrier, noKey, isHung) => {
        const value = isHung ? { type: handle.type, key: noKey, carrier } : carrier
        fc.pre(noKey !== key)
        assertRefused(value)
        assertRefused(structuredClone({ value }).value)
      }),
      { numRuns: 1000 }
    )
  })

  test('with bits of its key changed leads to its pool or to none, in whichever thread', async () => {
    const handleOf = (key, name, isCapital) =>
      structuredClone({ ...handle, key: isCapital ? key.toUpperCase() : key, name })
    const any = fc.tuple(tampered, fc.string(), fc.boolean())
    const thread = startThread(handle)
    const property = fc.asyncProperty(fc.array(any, { maxLength: 50 }), async (all) => {
      const handles = all.map((one) => handleOf(...one))
      const expected = handles.map((handle) => {
        const changed = handle.key.toLowerCase()
        if (changed === key) return 'attached'
        const isOurs = changed.slice(0, PROCESS_DIGITS) === key.slice(0, PROCESS_DIGITS)
        return isOurs ? FORGED : FOREIGN
      })
      for (const [i, handle] of handles.entries()) {
        if (expected[i] === 'attached') assert.equal(BufferPool.attach(handle), pool)
        else assert.throws(() => BufferPool.attach(handle), invalid(expected[i]))
      }
      const there = await thread.run(({ BufferPool, pool }, handles) => {
        return handles.map((handle) => {
          try {
            return BufferPool.attach(handle) === pool ? 'attached' : 'another pool'
          } catch ({ message }) {
            return /: (.*)\. Received/.exec(message)?.[1]
          }
        })
      }, handles)
      assert.deepEqual(there, expected)
    })
    await fc.assert(property, { numRuns: 50 })
    await thread.terminate()
  })
})
