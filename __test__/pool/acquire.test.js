'use strict'

/**
 * `acquire` and `acquireLease`: the lease that they resolve with, and the figures of `stats()` on
 * waits.
 */

const assert = require('node:assert/strict')
const { constants } = require('node:buffer')
const { describe, test } = require('node:test')
const { BufferPool } = require('../..')
const { attachThreads } = require('../support/attached-threads')
const {
  balanced,
  external,
  givesAtOnce,
  inEveryMode,
  runScript,
  settle,
  until
} = require('../support/helpers')
const {
  ABORTED,
  CLOSED,
  EXHAUSTED,
  KIB,
  LIMIT,
  MIB,
  fill,
  handedOn,
  microtasks,
  releaseAll,
  watch
} = require('../support/waiters')

describe('acquire', LIMIT, () => {
  test(
    'is served at once when there is room',
    inEveryMode(async (pool) => {
      for (const size of [1, 100, 64 * KIB, MIB]) {
        for (let i = 0; i < 3; i++) {
          const watched = watch(pool.acquire(size))
          await microtasks()
          const buffer = watched.value
          assert.ok(Buffer.isBuffer(buffer))
          assert.equal(buffer.length, size)
          assert.ok(pool.owns(buffer))
          pool.release(buffer)
          await handedOn()
        }
      }
      const { waitCount, allocCount, freshCount, inUseCount } = await balanced(pool)
      assert.deepEqual(
        { waitCount, allocCount, freshCount, inUseCount },
        { waitCount: 0, allocCount: 12, freshCount: 4, inUseCount: 0 }
      )
    })
  )

  test(
    'is served at once by what is idle in this thread, of whatever size',
    inEveryMode(
      async (pool) => {
        releaseAll(pool, fill(pool))
        const watched = watch(pool.acquire(MIB))
        await handedOn()
        assert.equal(watched.state, 'resolved')
        assert.equal(pool.stats().waitCount, givesAtOnce ? 0 : 1)
        pool.release(await watched.promise)
      },
      { maxBytes: MIB }
    )
  )

  test(
    'waits at the ceiling until there is room, and is counted',
    inEveryMode(
      async (pool) => {
        const held = pool.allocUnsafe(MIB)
        const watched = watch(pool.acquire(1000))
        await settle()
        assert.equal(watched.state, 'pending')
        assert.equal(pool.stats().waitCount, 1)
        pool.release(held)
        const buffer = await watched.promise
        assert.equal(buffer.length, 1000)
        assert.ok(pool.owns(buffer))
        pool.release(buffer)
        pool.release(await pool.acquire(1000))
        const { waitCount, unpooledCount, allocCount, releaseCount } = await balanced(pool)
        assert.deepEqual(
          { waitCount, unpooledCount, allocCount, releaseCount },
          { waitCount: 1, unpooledCount: 0, allocCount: 3, releaseCount: 3 }
        )
      },
      { maxBytes: MIB }
    )
  )

  test('counts a block that was got for it as a miss, and one that was idle as a hit', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    const other = pool.acquire(64 * KIB)
    pool.release(held)
    pool.release(await other)
    const { freshCount, missCount, hitCount } = await balanced(pool)
    assert.deepEqual(
      { freshCount, missCount, hitCount },
      { freshCount: 2, missCount: 2, hitCount: 0 }
    )
  })

  test('runs what waits for it after the release, not within', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    let order = ''
    const promise = pool.acquire(100).then((buffer) => {
      order += 'served '
      return buffer
    })
    pool.release(held)
    order += 'released '
    pool.release(await promise)
    assert.equal(order, 'released served ')
  })

  test(
    'with zero: true gives zeros, waiting or not',
    inEveryMode(
      async (pool) => {
        pool.release(pool.allocUnsafe(64 * KIB).fill(1))
        await handedOn()
        const atOnce = await pool.acquire(64 * KIB, { zero: true })
        assert.ok(atOnce.equals(Buffer.alloc(64 * KIB)))
        atOnce.fill(1)
        const promise = pool.acquire(1000, { zero: true })
        pool.release(atOnce)
        const later = await promise
        assert.ok(later.equals(Buffer.alloc(1000)))
        pool.release(later)
        assert.equal(pool.stats().waitCount, 1)
      },
      { maxBytes: 64 * KIB }
    )
  )

  test('gives zeros under --zero-fill-buffers, waiting or not', () => {
    const script = `
      const pool = new cistern.BufferPool({ maxBytes: 65_536, detachOnRelease: false })
      const isZero = (buffer) => buffer.equals(Buffer.alloc(65_536))
      ;(async () => {
        pool.release((await pool.acquire(65_536)).fill(1))
        const atOnce = await pool.acquire(65_536)
        const wasZero = isZero(atOnce)
        const promise = pool.acquire(65_536)
        pool.release(atOnce.fill(1))
        console.log(wasZero, isZero(await promise), pool.stats().waitCount)
      })()
    `
    assert.equal(runScript(script, { flags: ['--zero-fill-buffers'] }).trim(), 'true true 1')
    const [wasZero, isZero, waitCount] = runScript(script).trim().split(' ')
    assert.deepEqual([wasZero, waitCount], ['false', '1'], 'and costs nothing without')
    // V8's new memory may be zero.
    if (external) assert.equal(isZero, 'false')
  })

  test('serves an empty request, or one above maxBlockSize, at once, though others wait', async () => {
    const pool = new BufferPool({ maxBytes: MIB, maxBlockSize: 64 * KIB })
    const held = fill(pool)
    const first = watch(pool.acquire(100))
    const [empty, large] = [watch(pool.acquire(0)), watch(pool.acquire(64 * KIB + 1))]
    await microtasks()
    assert.equal(empty.value?.length, 0)
    assert.equal(large.value?.length, 64 * KIB + 1)
    assert.equal(first.state, 'pending')
    assert.equal(pool.stats().unpooledCount, 2)
    releaseAll(pool, [...held, empty.value, large.value])
    pool.release(await first.promise)
    await balanced(pool)
  })

  test('of more than the ceiling can ever hold is refused at once', async () => {
    for (const [maxBytes, maxBlockSize, sizes] of [
      [MIB, 32 * MIB, [MIB + 1, 2 * MIB, 32 * MIB, 33 * MIB]],
      [MIB, 64 * KIB, [MIB + 1, 40 * MIB]],
      // A block for it is larger than the ceiling.
      [1000, 32 * MIB, [897, 1000, 1001]],
      [1, 64, [1, 64, 65]]
    ]) {
      const pool = new BufferPool({ name: 'narrow', maxBytes, maxBlockSize })
      for (const size of sizes) {
        const watched = watch(pool.acquire(size))
        await microtasks()
        assert.equal(watched.state, 'rejected', `${size} of ${maxBytes} bytes`)
        assert.throws(() => {
          throw watched.error
        }, EXHAUSTED)
        const message = new RegExp(`'narrow'.*"size".*maxBytes is ${maxBytes}\\b.*${size}$`)
        assert.match(watched.error.message, message)
      }
      const { waitCount, freshCount } = await balanced(pool)
      assert.deepEqual({ waitCount, freshCount }, { waitCount: 0, freshCount: 0 })
    }
  })

  test('that is refused at once delays no other, and no other delays it', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    const first = pool.acquire(MIB)
    await assert.rejects(pool.acquire(2 * MIB), EXHAUSTED)
    const last = pool.acquire(100)
    pool.release(held)
    pool.release(await first)
    pool.release(await last)
    await balanced(pool)
  })
})

describe('acquireLease', LIMIT, () => {
  test(
    'gives a Buffer with its release, waiting or not',
    inEveryMode(
      async (pool) => {
        const first = await pool.acquireLease(MIB)
        assert.equal(first.buffer.length, MIB)
        assert.ok(pool.owns(first.buffer))
        const watched = watch(pool.acquireLease(1000))
        await settle()
        assert.equal(watched.state, 'pending')
        first.release()
        const second = await watched.promise
        first.release()
        assert.equal(second.buffer.length, 1000)
        assert.ok(pool.owns(second.buffer), 'the first one has ended nothing but itself')
        second[Symbol.dispose]()
        second.release()
        const { waitCount, allocCount, releaseCount } = await balanced(pool)
        assert.deepEqual(
          { waitCount, allocCount, releaseCount },
          { waitCount: 1, allocCount: 2, releaseCount: 2 }
        )
      },
      { maxBytes: MIB }
    )
  )

  test(
    'with zero: true gives zeros, waiting or not',
    inEveryMode(
      async (pool) => {
        pool.release(pool.allocUnsafe(64 * KIB).fill(1))
        await handedOn()
        const atOnce = await pool.acquireLease(64 * KIB, { zero: true })
        assert.ok(atOnce.buffer.equals(Buffer.alloc(64 * KIB)))
        atOnce.buffer.fill(1)
        const promise = pool.acquireLease(1000, { zero: true })
        atOnce.release()
        const later = await promise
        assert.ok(later.buffer.equals(Buffer.alloc(1000)))
        later.release()
      },
      { maxBytes: 64 * KIB }
    )
  )

  test('gives what V8 serves, too', async () => {
    const pool = new BufferPool({ maxBlockSize: 64 * KIB })
    for (const size of [0, 64 * KIB + 1]) {
      const lease = await pool.acquireLease(size)
      assert.equal(lease.buffer.length, size)
      lease.release()
    }
    const { unpooledCount, releaseCount } = await balanced(pool)
    assert.deepEqual({ unpooledCount, releaseCount }, { unpooledCount: 2, releaseCount: 2 })
  })

  test('is rejected as acquire is', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    await assert.rejects(pool.acquireLease(2 * MIB), EXHAUSTED)
    await assert.rejects(pool.acquireLease(-1), { code: 'ERR_OUT_OF_RANGE' })
    await assert.rejects(pool.acquireLease(1, { zeros: true }), { code: 'ERR_INVALID_ARG_VALUE' })
    await assert.rejects(pool.acquireLease(1, { signal: AbortSignal.abort() }), ABORTED)
    const controller = new AbortController()
    const aborted = pool.acquireLease(1, { signal: controller.signal })
    controller.abort()
    await assert.rejects(aborted, ABORTED)
    const waiting = pool.acquireLease(1)
    pool.close()
    await assert.rejects(waiting, CLOSED)
    pool.release(held)
    await balanced(pool)
  })
})

describe('stats()', LIMIT, () => {
  const waits = (/** @type {BufferPool} */ pool) => {
    const { waitingCount, longestWaitMs } = pool.stats()
    return { waitingCount, longestWaitMs }
  }
  const NOBODY = { waitingCount: 0, longestWaitMs: 0 }

  test('shows how many waiters all threads have, and how long the oldest has waited', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    assert.deepEqual(waits(pool), NOBODY)
    const start = performance.now()
    const [first, second] = [new AbortController(), new AbortController()]
    const promise = assert.rejects(pool.acquire(1, { signal: first.signal }), ABORTED)
    assert.equal(waits(pool).waitingCount, 1)
    const [thread] = await attachThreads(context, pool)
    await thread.run(({ pool }) => {
      globalThis.served = pool.acquireLease(1)
    })
    assert.equal(waits(pool).waitingCount, 2)
    await until(() => waits(pool).longestWaitMs > 100, 'the first one waits')
    const { longestWaitMs } = await thread.run(({ pool }) => pool.stats())
    assert.ok(longestWaitMs > 100 && longestWaitMs <= performance.now() - start, `${longestWaitMs}`)
    first.abort()
    await promise
    const other = assert.rejects(pool.acquire(1, { signal: second.signal }), ABORTED)
    assert.equal(waits(pool).waitingCount, 2)
    second.abort()
    await other
    assert.equal(waits(pool).waitingCount, 1)
    assert.ok(waits(pool).longestWaitMs > 0, "the other thread's")
    pool.release(held)
    await thread.run(async () => (await globalThis.served).release())
    assert.deepEqual(waits(pool), NOBODY)
  })

  test('shows no wait that has ended with its thread, or with the pool', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    const [thread] = await attachThreads(context, pool)
    await thread.run(({ pool }) => {
      for (let i = 0; i < 3; i++) pool.acquire(1)
    })
    const promise = assert.rejects(pool.acquire(1), CLOSED)
    assert.equal(waits(pool).waitingCount, 4)
    await thread.terminate()
    assert.equal(waits(pool).waitingCount, 1)
    pool.close()
    await promise
    assert.deepEqual(waits(pool), NOBODY)
    pool.release(held)
  })

  test('counts a waiter that was granted a block and does not know it yet', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    const [thread] = await attachThreads(context, pool)
    const flag = new Int32Array(new SharedArrayBuffer(8))
    const served = thread.run(async ({ pool }, flag) => {
      const promise = pool.acquire(1)
      Atomics.store(flag, 0, 1)
      Atomics.wait(flag, 1, 0)
      pool.release(await promise)
    }, flag)
    await until(() => Atomics.load(flag, 0) === 1, 'it waits')
    pool.release(held)
    await settle()
    assert.equal(waits(pool).waitingCount, 1)
    Atomics.store(flag, 1, 1)
    Atomics.notify(flag, 1)
    await served
    assert.deepEqual(waits(pool), NOBODY)
  })

  test('never has a peak above the ceiling, and none below what was leased', async (context) => {
    const pool = new BufferPool({ maxBytes: Math.floor(25.2 * MIB), leakSampleRate: 0 })
    const threads = await attachThreads(context, pool, 3)
    const used = threads.map((thread, index) =>
      thread.run(async ({ pool, random }, seed) => {
        const next = random(seed)
        const peaks = []
        for (let round = 0; round < 100; round++) {
          const all = []
          // No thread waits for a second one: it gets all at once, or none.
          const first = await pool.acquire(Math.floor(2 ** 20 * (1 + 8 * next())))
          all.push(first)
          for (let i = 0; i < 4; i++) {
            const more = pool.allocUnsafe(Math.floor(2 ** 20 * (1 + 2 * next())))
            all.push(more)
          }
          if (round % 3 === 0) await new Promise(setImmediate)
          const { inUseBytes, peakInUseBytes } = pool.stats()
          peaks.push([inUseBytes, peakInUseBytes])
          for (const buffer of all) pool.release(buffer)
        }
        return peaks
      }, index)
    )
    const { maxBytes } = pool.stats()
    let most = 0
    for (const [inUseBytes, peakInUseBytes] of (await Promise.all(used)).flat()) {
      most = Math.max(most, inUseBytes)
      assert.ok(peakInUseBytes <= maxBytes, `${peakInUseBytes} of ${maxBytes}`)
      assert.ok(inUseBytes <= peakInUseBytes, `${inUseBytes} of ${peakInUseBytes}`)
    }
    const { peakInUseBytes } = await balanced(pool)
    assert.ok(most <= peakInUseBytes && peakInUseBytes <= maxBytes)
  })

  test('has a peak of no more than the threads had at a time, one after the other', async (context) => {
    const pool = new BufferPool({ maxBytes: 64 * MIB })
    for (const thread of await attachThreads(context, pool, 3)) {
      await thread.run(async ({ pool }) => {
        const all = Array.from({ length: 4 }, () => pool.allocUnsafe(2 ** 20))
        for (const buffer of all) pool.release(buffer)
        pool.trim()
        await new Promise(setImmediate)
      })
    }
    await until(() => pool.stats().idleBytes === 0, 'all is back')
    assert.equal(pool.stats().peakInUseBytes, 4 * MIB)
  })
})

describe('acquire with wrong arguments', LIMIT, () => {
  const WRONG = [
    [['5'], 'ERR_INVALID_ARG_TYPE'],
    [[undefined], 'ERR_INVALID_ARG_TYPE'],
    [[null], 'ERR_INVALID_ARG_TYPE'],
    [[5n], 'ERR_INVALID_ARG_TYPE'],
    [[{}], 'ERR_INVALID_ARG_TYPE'],
    [[NaN], 'ERR_OUT_OF_RANGE'],
    [[-1], 'ERR_OUT_OF_RANGE'],
    [[1.5], 'ERR_OUT_OF_RANGE'],
    [[Infinity], 'ERR_OUT_OF_RANGE'],
    [[constants.MAX_LENGTH + 2], 'ERR_OUT_OF_RANGE'],
    [[10, null], 'ERR_INVALID_ARG_TYPE', /"options"/],
    [[10, 5], 'ERR_INVALID_ARG_TYPE', /"options"/],
    [[10, 'zero'], 'ERR_INVALID_ARG_TYPE', /"options"/],
    [[10, { zero: 1 }], 'ERR_INVALID_ARG_TYPE', /options\.zero.*boolean.*1/],
    [[10, { zero: null }], 'ERR_INVALID_ARG_TYPE', /options\.zero/],
    [[10, { signal: null }], 'ERR_INVALID_ARG_TYPE', /options\.signal.*AbortSignal/],
    [[10, { signal: 5 }], 'ERR_INVALID_ARG_TYPE', /options\.signal/],
    [[10, { signal: {} }], 'ERR_INVALID_ARG_TYPE', /options\.signal/],
    [[10, { signal: new AbortController() }], 'ERR_INVALID_ARG_TYPE', /options\.signal/],
    [[10, { signal: { aborted: false } }], 'ERR_INVALID_ARG_TYPE', /options\.signal/]
  ]
  for (const [args, code, message = /"size"/] of WRONG) {
    const shown = args.map((arg) => (typeof arg === 'bigint' ? `${arg}n` : JSON.stringify(arg)))
    test(`${args.length === 1 ? String(args) : shown} is rejected with ${code}`, async () => {
      for (const isFull of [false, true]) {
        const pool = new BufferPool({ maxBytes: MIB })
        if (isFull) fill(pool)
        const { allocCount } = pool.stats()
        // The function never throws, but always returns a promise.
        const promise = pool.acquire(...args)
        assert.ok(promise instanceof Promise)
        await assert.rejects(promise, { code, message })
        assert.equal(pool.stats().waitCount, 0)
        assert.equal(pool.stats().allocCount, allocCount)
      }
    })
  }

  test('or with options that throw is rejected with what they throw', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const options = {
      get zero() {
        throw new Error('on purpose')
      }
    }
    await assert.rejects(pool.acquire(10, options), { message: 'on purpose' })
  })

  test('or a signal that refuses listeners leaves the queue as it is', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    const signal = {
      aborted: false,
      addEventListener() {
        throw new Error('on purpose')
      },
      removeEventListener() {}
    }
    await assert.rejects(pool.acquire(MIB, { signal }), { message: 'on purpose' })
    const next = pool.acquire(10)
    pool.release(held)
    pool.release(await next)
    const { inUseCount, waitCount } = await balanced(pool)
    assert.deepEqual({ inUseCount, waitCount }, { inUseCount: 0, waitCount: 1 })
  })
})
