'use strict'

/** `acquire`: who waits for memory, in which order they get it, and how a wait ends without. */

const assert = require('node:assert/strict')
const { constants } = require('node:buffer')
const diagnostics = require('node:diagnostics_channel')
const { getEventListeners, once } = require('node:events')
const { after, before, describe, test } = require('node:test')
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises')
const { Worker } = require('node:worker_threads')
const fc = require('fast-check')
const { BufferPool } = require('../..')
const { blockSizes, classOf } = require('../../lib/cache/size-class')
const { Call } = require('../support/model/call')
const { crew } = require('../support/crew')
const {
  MODES,
  balanced,
  collectUntil,
  endsShow,
  external,
  givesAtOnce,
  inEveryMode,
  posts,
  roomFor,
  runScript,
  settle,
  until
} = require('../support/helpers')
const { random } = require('../support/torture')

const KIB = 1024
const MIB = 1024 * KIB

const ABORTED = { name: 'AbortError', code: 'ABORT_ERR' }
const CLOSED = { name: 'Error', code: 'ERR_CISTERN_CLOSED' }
const EXHAUSTED = { name: 'RangeError', code: 'ERR_CISTERN_EXHAUSTED' }

/** For what waits in vain: in milliseconds. */
const LIMIT = { timeout: 120_000 }

/** Waiting for what this thread has leased itself keeps no event loop alive, so something else must. */
let alive
before(() => {
  alive = setInterval(() => {}, 1000)
})
after(() => clearInterval(alive))

/** The bytes that a lease of a size takes. */
const blockOf = (/** @type {number} */ size) => blockSizes[classOf(size)]

/**
 * What becomes of a promise.
 *
 * @template T
 * @param {Promise<T>} promise
 */
function watch(promise) {
  /** @type {{ state: 'pending' | 'resolved' | 'rejected', value?: T, error?: any, promise: Promise<T> }} */
  const watched = { state: 'pending', promise }
  promise.then(
    (value) => Object.assign(watched, { state: 'resolved', value }),
    (error) => Object.assign(watched, { state: 'rejected', error })
  )
  return watched
}

/** Lets promises settle that can without a turn of the event loop. */
async function microtasks() {
  for (let i = 0; i < 10; i++) await null
}

/** Until what was given back in this thread has reached who waits. */
const handedOn = givesAtOnce ? microtasks : settle

/**
 * Leases blocks of 64 KiB until the ceiling is reached.
 *
 * @param {BufferPool} pool that has nothing leased
 */
function fill(pool) {
  const count = pool.stats().maxBytes / (64 * KIB)
  return Array.from({ length: count }, () => pool.allocUnsafe(64 * KIB))
}

/**
 * @param {BufferPool} pool
 * @param {Iterable<Buffer>} buffers
 */
function releaseAll(pool, buffers) {
  for (const buffer of buffers) pool.release(buffer)
}

/** The line as it should be: the first of it is served when its block fits, and nobody else. */
class Line {
  /** @type {{ id: number, bytes: number }[]} */
  #waiting = []

  /** @param {number} free in bytes */
  constructor(free) {
    this.free = free
  }

  get length() {
    return this.#waiting.length
  }

  /** Someone comes. Returns who are served then. */
  join(/** @type {number} */ id, /** @type {number} */ size) {
    this.#waiting.push({ id, bytes: blockOf(size) })
    return this.#serve()
  }

  /** Someone goes without having been served. */
  leave(/** @type {number} */ id) {
    this.#waiting = this.#waiting.filter((waiter) => waiter.id !== id)
    return this.#serve()
  }

  /** A block comes back. */
  giveBack(/** @type {number} */ size) {
    this.free += blockOf(size)
    return this.#serve()
  }

  #serve() {
    const served = []
    while (this.#waiting.length > 0 && this.#waiting[0].bytes <= this.free) {
      const { id, bytes } = /** @type {{ id: number, bytes: number }} */ (this.#waiting.shift())
      this.free -= bytes
      served.push(id)
    }
    return served
  }
}

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
    // What V8 gets anew may be zero.
    if (external) assert.equal(isZero, 'false')
  })

  test('gives what is empty or larger than maxBlockSize at once, whoever waits', async () => {
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

  test('that is refused at once holds nobody up, and nobody it', async () => {
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

  test('tells how many wait in all threads, and for how long the oldest has', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    assert.deepEqual(waits(pool), NOBODY)
    const start = performance.now()
    const [first, second] = [new AbortController(), new AbortController()]
    const promise = assert.rejects(pool.acquire(1, { signal: first.signal }), ABORTED)
    assert.equal(waits(pool).waitingCount, 1)
    const [thread] = await crew(context, pool)
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

  test('tells of no wait that has ended with its thread, or with the pool', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    const [thread] = await crew(context, pool)
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

  test('counts who was granted a block and has not heard of it', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    const [thread] = await crew(context, pool)
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
    const threads = await crew(context, pool, 3)
    const used = threads.map((thread, index) =>
      thread.run(async ({ pool, random }, seed) => {
        const next = random(seed)
        const peaks = []
        for (let round = 0; round < 100; round++) {
          const all = []
          // No thread waits for a second one: all are had at once, or not at all.
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
    for (const thread of await crew(context, pool, 3)) {
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
        // Not thrown: a promise, whatever comes.
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

  test('or a signal that can not be listened to leaves the line as it is', async () => {
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

describe('the line', LIMIT, () => {
  test(
    'is served in the order of arrival, whatever the sizes',
    inEveryMode(
      async (pool) => {
        const next = random(7)
        const below = (/** @type {number} */ limit) => Math.floor(next() * limit)
        const held = fill(pool)
        const sizes = Array.from({ length: 60 }, () => 1 + below(next() < 0.2 ? MIB : 100 * KIB))
        const line = new Line(0)
        const order = []
        const expected = []
        const promises = sizes.map(async (size, id) => {
          const promise = pool.acquire(size)
          expected.push(...line.join(id, size))
          const buffer = await promise
          assert.equal(buffer.length, size)
          order.push(id)
          held.push(buffer)
        })
        while (order.length < sizes.length) {
          const [buffer] = held.splice(below(held.length), 1)
          const { length } = buffer
          pool.release(buffer)
          expected.push(...line.giveBack(length))
          await settle()
          assert.deepEqual(order, expected, 'all that there is room for, and nobody else')
        }
        await Promise.all(promises)
        assert.deepEqual(order, [...sizes.keys()])
        releaseAll(pool, held)
        const { waitCount, unpooledCount } = await balanced(pool)
        assert.deepEqual({ waitCount, unpooledCount }, { waitCount: 60, unpooledCount: 0 })
      },
      { maxBytes: MIB }
    )
  )

  for (const { mode, options } of MODES.slice(0, 2)) {
    test(`is one for all threads, one served at a time, ${mode}`, async (context) => {
      const pool = new BufferPool({ ...options, maxBytes: MIB })
      const threads = await crew(context, pool, 3)
      const held = pool.allocUnsafe(MIB)
      // [0] counts who was served; from [1] on, the place at which each was.
      const places = new Int32Array(new SharedArrayBuffer(4 * 31))
      const next = random(3)
      const wait = async ({ pool }, { id, size, places }) => {
        const serve = async () => {
          const buffer = await pool.acquire(size)
          Atomics.store(places, id + 1, Atomics.add(places, 0, 1))
          pool.release(buffer)
        }
        serve()
      }
      const here = []
      for (let id = 0; id < 30; id++) {
        // No two fit at a time.
        const size = Math.floor(MIB / 2 + 1 + next() * (MIB / 2 - 1))
        if (id % 4 === 3) here.push(wait({ pool }, { id, size, places }))
        else await threads[id % 4].run(wait, { id, size, places })
      }
      assert.equal(pool.stats().waitCount, 30)
      pool.release(held)
      await until(() => Atomics.load(places, 0) === 30, 'all are served')
      assert.deepEqual([...places.slice(1)], [...Array(30).keys()])
      await balanced(pool)
    })
  }

  test('is one for all threads, as many served as there is room for', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB, idleTimeout: Infinity })
    const threads = await crew(context, pool, 3)
    const next = random(11)
    const below = (/** @type {number} */ limit) => Math.floor(next() * limit)
    const held = fill(pool).map((buffer) => ({ size: 64 * KIB, free: () => pool.release(buffer) }))
    const sizes = Array.from({ length: 40 }, () => 1 + below(next() < 0.2 ? MIB : 100 * KIB))
    const flags = new Int32Array(new SharedArrayBuffer(4 * sizes.length))
    const served = () => [...flags.keys()].filter((id) => Atomics.load(flags, id) === 1)
    const line = new Line(0)
    const expected = []
    for (const [id, size] of sizes.entries()) {
      await threads[id % 3].run(
        ({ pool, held }, { id, size, flags }) => {
          pool.acquire(size).then((buffer) => {
            held[id] = buffer
            Atomics.store(flags, id, 1)
          })
        },
        { id, size, flags }
      )
      expected.push(...line.join(id, size))
    }
    while (line.length > 0) {
      const [{ size, free }] = held.splice(below(held.length), 1)
      await free()
      for (const id of line.giveBack(size)) {
        expected.push(id)
        const give = ({ pool, held }, id) => pool.release(held[id])
        held.push({ size: sizes[id], free: () => threads[id % 3].run(give, id) })
      }
      await until(() => expected.every((id) => flags[id] === 1), 'all there is room for are served')
      assert.deepEqual(served(), expected, 'and nobody else')
    }
    for (const { free } of held) await free()
    const { inUseCount } = await balanced(pool)
    assert.equal(inUseCount, 0)
  })

  test(
    'does not let small ones pass a large one at its head',
    inEveryMode(
      async (pool) => {
        const held = fill(pool)
        const large = watch(pool.acquire(14 * 64 * KIB))
        const smalls = Array.from({ length: 10 }, () => watch(pool.acquire(100)))
        releaseAll(pool, held.splice(0, 13))
        await settle()
        assert.equal(large.state, 'pending')
        for (const { state } of smalls) assert.equal(state, 'pending')
        assert.equal(pool.stats().inUseBytes, 3 * 64 * KIB, 'though there is much room')
        pool.release(held.pop())
        await settle()
        assert.equal(large.state, 'resolved')
        for (const { state } of smalls) assert.equal(state, 'pending')
        pool.release(held.pop())
        releaseAll(pool, await Promise.all([large, ...smalls].map(({ promise }) => promise)))
        releaseAll(pool, held)
        assert.equal(pool.stats().inUseCount, 0)
      },
      { maxBytes: MIB }
    )
  )

  test('does not let allocUnsafe pass it, in no thread', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB, onExhausted: 'throw', idleTimeout: Infinity })
    const threads = await crew(context, pool, 2)
    for (const thread of threads) {
      await thread.run(({ pool, held }) => {
        held.push(pool.allocUnsafe(64 * 1024), pool.allocUnsafe(64 * 1024))
        // This one lies idle there.
        pool.release(held.pop())
      })
    }
    const large = watch(pool.acquire(MIB))
    // With that they have been asked for what they have idle, and have given it up.
    for (const thread of threads) await thread.run(({ settle }) => settle())
    const calls = [
      ({ pool }) => pool.allocUnsafe(64 * 1024),
      ({ pool }) => pool.alloc(64 * 1024),
      ({ pool }) => pool.lease(64 * 1024)
    ]
    for (const call of calls) assert.throws(() => call({ pool }), EXHAUSTED)
    for (const thread of threads) {
      for (const call of calls) await assert.rejects(thread.run(call), EXHAUSTED)
    }
    assert.ok(pool.stats().inUseBytes === 128 * KIB && large.state === 'pending')
    await threads[0].run(({ pool, held }) => pool.release(held.pop()))
    for (const call of calls) assert.throws(() => call({ pool }), EXHAUSTED)
    await assert.rejects(threads[0].run(calls[0]), EXHAUSTED, 'not even what it has just released')
    await threads[1].run(({ pool, held }) => pool.release(held.pop()))
    pool.release(await large.promise)
    for (const thread of threads) {
      await until(async () => {
        const task = ({ pool }) => pool.release(pool.allocUnsafe(64 * 1024))
        return thread.run(task).then(
          () => true,
          () => false
        )
      }, 'there is room again')
    }
    await balanced(pool)
  })

  test('does not let those pass it who have not heard of it yet', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB, idleTimeout: Infinity })
    const [thread] = await crew(context, pool)
    const held = fill(pool)
    pool.release(held.pop())
    const flags = new Int32Array(new SharedArrayBuffer(12))
    const busy = thread.run(async ({ pool, held }, flags) => {
      pool.release(await pool.acquire(64 * 1024))
      Atomics.store(flags, 0, 1)
      Atomics.wait(flags, 1, 0)
      // Still the same turn, and its own block is idle here.
      pool.acquire(64 * 1024).then((buffer) => {
        held.push(buffer)
        Atomics.store(flags, 2, 1)
      })
      for (let i = 0; i < 10; i++) await null
      return Atomics.load(flags, 2)
    }, flags)
    await until(() => Atomics.load(flags, 0) === 1, 'it has a block idle')
    const first = watch(pool.acquire(64 * KIB))
    Atomics.store(flags, 1, 1)
    Atomics.notify(flags, 1)
    assert.equal(await busy, 0, 'it waits, too')
    const buffer = await first.promise
    assert.equal(Atomics.load(flags, 2), 0)
    pool.release(buffer)
    await until(() => Atomics.load(flags, 2) === 1, 'and comes next')
    await thread.run(({ pool, held }) => pool.release(held.pop()))
    releaseAll(pool, held)
    await balanced(pool)
  })

  test('is served in the midst of threads that lease and release all the time', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB, onExhausted: 'throw' })
    const threads = await crew(context, pool, 2)
    // [0] ends it; the others count what each thread was given.
    const flags = new Int32Array(new SharedArrayBuffer(12))
    const hammers = threads.map((thread, i) =>
      thread.run(
        async ({ pool, held, turn }, { flags, i }) => {
          while (Atomics.load(flags, 0) === 0) {
            for (let j = 0; j < 20; j++) {
              try {
                held.push(pool.allocUnsafe(64 * 1024))
                Atomics.add(flags, i + 1, 1)
              } catch {}
              if (held.length > 6) pool.release(held.shift())
            }
            await turn()
            while (held.length > 0) pool.release(held.pop())
            await turn()
          }
        },
        { flags, i }
      )
    )
    for (let i = 0; i < 20 || flags[1] === 0 || flags[2] === 0; i++) {
      // All of it: each of them must have nothing at one time.
      const buffer = await pool.acquire(MIB)
      assert.equal(pool.stats().inUseBytes, MIB)
      await sleep(1)
      pool.release(buffer)
      await sleep(1)
    }
    Atomics.store(flags, 0, 1)
    await Promise.all(hammers)
    await until(() => pool.stats().inUseCount === 0, 'all is back')
    await balanced(pool)
  })
})

describe('an AbortSignal', LIMIT, () => {
  const listenersOf = (/** @type {AbortSignal} */ signal) => getEventListeners(signal, 'abort')

  test(
    'that has fired already rejects at once',
    inEveryMode(
      async (pool) => {
        const reason = new Error('on purpose')
        const signal = AbortSignal.abort(reason)
        const held = []
        for (let i = 0; i < 2; i++) {
          const watched = watch(pool.acquire(1000, { signal }))
          await microtasks()
          assert.equal(watched.error?.cause, reason)
          const { name, code, message } = watched.error
          assert.deepEqual({ name, code }, ABORTED)
          assert.match(message, /aborted/)
          assert.equal(listenersOf(signal).length, 0)
          assert.equal(pool.stats().waitCount, 0)
          // Once with room, and once without.
          if (i === 0) held.push(...fill(pool))
        }
        releaseAll(pool, held)
      },
      { maxBytes: MIB }
    )
  )

  for (const reason of [undefined, new Error('on purpose'), 'a string', null]) {
    test(`that fires with ${reason} ends the wait at once`, async () => {
      const pool = new BufferPool({ maxBytes: MIB })
      const held = pool.allocUnsafe(MIB)
      const controller = new AbortController()
      const { signal } = controller
      const watched = watch(pool.acquire(1000, { signal }))
      await settle()
      assert.equal(watched.state, 'pending')
      controller.abort(reason)
      await microtasks()
      assert.equal(watched.state, 'rejected')
      const { name, code, cause } = watched.error
      assert.ok(watched.error instanceof Error)
      assert.deepEqual({ name, code }, ABORTED)
      assert.equal(cause, signal.reason)
      assert.equal(listenersOf(signal).length, 0)
      pool.release(held)
      const { inUseCount, allocCount } = await balanced(pool)
      assert.deepEqual({ inUseCount, allocCount }, { inUseCount: 0, allocCount: 1 })
      pool.release(await pool.acquire(MIB))
    })
  }

  test(
    'that fires lets the next in line be served',
    inEveryMode(
      async (pool) => {
        const held = fill(pool)
        const controllers = Array.from({ length: 4 }, () => new AbortController())
        const waiters = [MIB, 64 * KIB, MIB, 128 * KIB].map((size, i) =>
          watch(pool.acquire(size, { signal: controllers[i].signal }))
        )
        const states = () => waiters.map(({ state }) => state[0]).join('')
        // From the midst.
        controllers[2].abort()
        releaseAll(pool, held.splice(0, 2))
        await settle()
        assert.equal(states(), 'pprp')
        // The head: there is room for the next, but not for the one after.
        controllers[0].abort()
        await microtasks()
        assert.equal(states(), 'rrrp')
        assert.equal(pool.stats().inUseBytes, MIB - 64 * KIB)
      },
      { maxBytes: MIB }
    )
  )

  test('that fires leaves no trace in a line across threads', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const [thread] = await crew(context, pool)
    const held = fill(pool)
    await thread.run((self) => {
      self.controller = new AbortController()
      self.first = self.pool.acquire(1024 * 1024, { signal: self.controller.signal })
      self.first.catch(() => {})
    })
    const second = watch(pool.acquire(64 * KIB))
    pool.release(held.pop())
    await settle()
    assert.equal(second.state, 'pending', 'the one in the other thread stands before it')
    await thread.run(({ controller }) => controller.abort())
    await assert.rejects(
      thread.run(({ first }) => first),
      ABORTED
    )
    releaseAll(pool, [...held, await second.promise])
    const { inUseCount } = await balanced(pool)
    assert.equal(inUseCount, 0)
  })

  test('of AbortSignal.timeout ends the wait by itself', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    const signal = AbortSignal.timeout(20)
    const error = await pool.acquire(10, { signal }).catch((error) => error)
    assert.deepEqual({ name: error.name, code: error.code }, ABORTED)
    assert.equal(error.cause.name, 'TimeoutError')
    assert.equal(error.cause, signal.reason)
    assert.equal(listenersOf(signal).length, 0)
    pool.release(held)
    await balanced(pool)
  })

  test('may serve many waits, and ends all of them', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = fill(pool)
    const controller = new AbortController()
    const { signal } = controller
    const waiters = Array.from({ length: 9 }, () => watch(pool.acquire(64 * KIB, { signal })))
    const other = watch(pool.acquire(MIB))
    releaseAll(pool, held.splice(0, 3))
    await handedOn()
    assert.equal(listenersOf(signal).length, 6)
    controller.abort()
    await microtasks()
    const states = waiters.map(({ state }) => state)
    assert.deepEqual(states, [...Array(3).fill('resolved'), ...Array(6).fill('rejected')])
    assert.equal(listenersOf(signal).length, 0)
    releaseAll(pool, held)
    for (const { value } of waiters) if (value) pool.release(value)
    pool.release(await other.promise)
    await balanced(pool)
  })

  test(
    'that fires after the grant is harmless',
    inEveryMode(
      async (pool) => {
        const atOnce = new AbortController()
        const first = await pool.acquire(MIB, { signal: atOnce.signal })
        assert.equal(listenersOf(atOnce.signal).length, 0)
        atOnce.abort()
        assert.ok(pool.owns(first))
        const waited = new AbortController()
        const promise = pool.acquire(MIB, { signal: waited.signal })
        assert.equal(listenersOf(waited.signal).length, 1)
        pool.release(first)
        if (!givesAtOnce) {
          // It comes before the grant.
          waited.abort()
          await assert.rejects(promise, ABORTED)
          assert.equal(listenersOf(waited.signal).length, 0)
          pool.release(await pool.acquire(MIB))
          return
        }
        // Granted, and its thread has heard of it; who awaits it has not.
        waited.abort()
        const second = await promise
        assert.equal(listenersOf(waited.signal).length, 0)
        assert.equal(second.length, MIB)
        assert.ok(pool.owns(second))
        pool.release(second)
      },
      { maxBytes: MIB }
    )
  )

  test('that fires at the moment of a grant from elsewhere loses nothing', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const [thread] = await crew(context, pool)
    let served = 0
    for (let i = 0; i < 100; i++) {
      await thread.run(({ pool, held }) => held.push(pool.allocUnsafe(1024 * 1024)))
      const controller = new AbortController()
      const first = watch(pool.acquire(MIB, { signal: controller.signal }))
      const second = watch(pool.acquire(MIB))
      const released = thread.run(({ pool, held }) => pool.release(held.pop()))
      const end = performance.now() + (i % 20) * 0.05
      while (performance.now() < end) if (i % 3 === 0) await turn()
      controller.abort()
      const outcome = await first.promise.catch((error) => error)
      if (Buffer.isBuffer(outcome)) {
        served++
        pool.release(outcome)
      } else {
        assert.equal(outcome.name, 'AbortError')
      }
      assert.equal(listenersOf(controller.signal).length, 0)
      pool.release(await second.promise)
      await released
      assert.equal(pool.stats().inUseCount, 0)
    }
    context.diagnostic(`${served} of 100 were served before they were aborted`)
    await balanced(pool)
  })

  test('loses its listener however the wait ends', async () => {
    const { signal } = new AbortController()
    const pool = new BufferPool({ maxBytes: MIB })
    const held = await pool.acquire(MIB, { signal })
    const served = pool.acquire(MIB, { signal })
    assert.equal(listenersOf(signal).length, 1)
    pool.release(held)
    await served
    assert.equal(listenersOf(signal).length, 0)
    await assert.rejects(pool.acquire(2 * MIB, { signal }), EXHAUSTED)
    await assert.rejects(pool.acquire(-1, { signal }), { code: 'ERR_OUT_OF_RANGE' })
    assert.equal(listenersOf(signal).length, 0)
    const waiting = pool.acquire(MIB, { signal })
    assert.equal(listenersOf(signal).length, 1)
    pool.close()
    await assert.rejects(waiting, CLOSED)
    await assert.rejects(pool.acquire(10, { signal }), CLOSED)
    assert.equal(listenersOf(signal).length, 0)
  })

  test('that a subscriber of cistern:exhausted fires ends the wait, too', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    const controller = new AbortController()
    const { signal } = controller
    const abort = () => controller.abort()
    diagnostics.subscribe('cistern:exhausted', abort)
    const watched = watch(pool.acquire(10, { signal }))
    diagnostics.unsubscribe('cistern:exhausted', abort)
    await microtasks()
    assert.equal(watched.error?.name, 'AbortError')
    assert.equal(listenersOf(signal).length, 0)
    pool.release(held)
    await balanced(pool)
  })
})

describe('close', LIMIT, () => {
  test(
    'rejects everyone who waits, and who comes after',
    inEveryMode(
      async (pool) => {
        const held = fill(pool)
        const waiters = [MIB, 10, 64 * KIB].map((size) => watch(pool.acquire(size)))
        await settle()
        pool.close()
        await settle()
        for (const { state, error } of waiters) {
          assert.equal(state, 'rejected')
          assert.deepEqual({ name: error.name, code: error.code }, CLOSED)
          assert.match(error.message, /'narrow'/)
        }
        for (const size of [0, 10, MIB, 2 * MIB, 40 * MIB]) {
          await assert.rejects(pool.acquire(size), CLOSED)
        }
        releaseAll(pool, held)
        const { inUseCount, idleCount } = await balanced(pool)
        assert.deepEqual({ inUseCount, idleCount }, { inUseCount: 0, idleCount: 0 })
      },
      { name: 'narrow', maxBytes: MIB }
    )
  )

  test('rejects them in all threads, whichever closes', async (context) => {
    for (const closesHere of [true, false]) {
      const pool = new BufferPool({ maxBytes: MIB })
      const threads = await crew(context, pool, 3)
      const held = fill(pool)
      const promises = [
        pool.acquire(10),
        pool.acquire(MIB),
        ...threads.map((thread) => thread.run(({ pool }) => pool.acquire(1000)))
      ]
      const outcomes = Promise.allSettled(promises)
      await until(() => pool.stats().waitCount === 5, 'all wait')
      if (closesHere) pool.close()
      else await threads[0].run(({ pool }) => pool.close())
      for (const { reason } of await outcomes) assert.equal(reason?.code, CLOSED.code)
      for (const thread of threads) {
        await assert.rejects(
          thread.run(({ pool }) => pool.acquire(1)),
          CLOSED
        )
      }
      releaseAll(pool, held)
      const { freedBytes } = await balanced(pool)
      assert.equal(freedBytes, MIB)
    }
  })

  test('leaves nobody with what was granted at that moment', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const [thread] = await crew(context, pool)
    await thread.run(({ pool, held }) => held.push(pool.allocUnsafe(1024 * 1024)))
    const promise = pool.acquire(MIB)
    // From then on it gives up what comes back to it.
    await thread.run(({ settle }) => settle())
    const flag = new Int32Array(new SharedArrayBuffer(4))
    const released = thread.run(({ pool, held }, flag) => {
      pool.release(held.pop())
      Atomics.store(flag, 0, 1)
      Atomics.notify(flag, 0)
    }, flag)
    Atomics.wait(flag, 0, 0, 10_000)
    // Granted, and this thread has not turned to hear of it.
    pool.close()
    await assert.rejects(promise, CLOSED)
    await released
    const { inUseCount, idleCount } = await balanced(pool)
    assert.deepEqual({ inUseCount, idleCount }, { inUseCount: 0, idleCount: 0 })
  })
})

describe('a thread', LIMIT, () => {
  /**
   * A worker with `pool` at hand that does as it is written.
   *
   * @param {import('node:test').TestContext} context
   * @param {BufferPool} pool
   * @param {string} script
   */
  function startWorker(context, pool, script) {
    const source = `
      const { parentPort, workerData: { entry, handle } } = require('node:worker_threads')
      const pool = require(entry).BufferPool.attach(handle)
      ${script}
    `
    const workerData = { entry: require.resolve('../..'), handle: pool.handle }
    const worker = new Worker(source, { eval: true, workerData })
    context.after(() => worker.terminate())
    return worker
  }

  test('that waits and is terminated does not hold up those behind it', async (context) => {
    for (const { options } of MODES.slice(0, 2)) {
      const pool = new BufferPool({ ...options, maxBytes: MIB })
      const threads = await crew(context, pool, 2)
      const held = fill(pool)
      for (const thread of threads) {
        await thread.run(({ pool }) => {
          for (let i = 0; i < 3; i++) pool.acquire(1024 * 1024)
        })
      }
      const promise = pool.acquire(64 * KIB)
      const watched = watch(promise)
      pool.release(held.pop())
      await settle()
      assert.equal(watched.state, 'pending')
      await threads[0].terminate()
      await settle()
      assert.equal(watched.state, 'pending', 'the other stands before it, too')
      await threads[1].terminate()
      releaseAll(pool, [...held, await promise])
      const { inUseCount, quarantinedBytes } = await balanced(pool)
      assert.deepEqual({ inUseCount, quarantinedBytes }, { inUseCount: 0, quarantinedBytes: 0 })
    }
  })

  test('that had what others wait for: they get it, or hear that they never will', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const [thread] = await crew(context, pool)
    await thread.run(({ pool }) => {
      globalThis.kept = pool.allocUnsafe(512 * 1024)
    })
    const all = watch(pool.acquire(MIB))
    const some = watch(pool.acquire(64 * KIB))
    await settle()
    assert.deepEqual([all.state, some.state], ['pending', 'pending'])
    await thread.terminate()
    if (endsShow || !external) pool.release(await all.promise)
    else await assert.rejects(all.promise, { ...EXHAUSTED, message: /can never hold such a block/ })
    pool.release(await some.promise)
    assert.equal((await balanced(pool)).inUseCount, 0)
  })

  test('that was granted a block at that moment loses nothing', async (context) => {
    for (const { options } of MODES.slice(0, 2)) {
      const pool = new BufferPool({ ...options, maxBytes: MIB })
      const [thread] = await crew(context, pool)
      const held = pool.allocUnsafe(MIB)
      const flag = new Int32Array(new SharedArrayBuffer(8))
      thread
        .run(({ pool }, flag) => {
          pool.acquire(1024 * 1024)
          Atomics.store(flag, 0, 1)
          // It never turns to hear of its grant.
          Atomics.wait(flag, 1, 0)
        }, flag)
        .catch(() => {})
      await until(() => Atomics.load(flag, 0) === 1, 'it waits')
      const watched = watch(pool.acquire(MIB))
      pool.release(held)
      await settle()
      assert.equal(watched.state, 'pending', 'the block is granted to the other')
      const { inUseBytes, idleBytes } = await balanced(pool)
      assert.deepEqual({ inUseBytes, idleBytes }, { inUseBytes: 0, idleBytes: MIB })
      await thread.terminate()
      pool.release(await watched.promise)
      const { quarantinedBytes, freshBytes, freedBytes } = await balanced(pool)
      assert.equal(quarantinedBytes, 0)
      assert.ok(freshBytes - freedBytes <= MIB)
    }
  })

  test('that is terminated at any moment loses nothing', {
    skip: external && !endsShow
  }, async (context) => {
    const pool = new BufferPool({ maxBytes: MIB, leakSampleRate: 0 })
    for (let round = 0; round < 15; round++) {
      const [thread] = await crew(context, pool)
      thread
        .run(async ({ pool, random }, round) => {
          const next = random(round)
          const use = async () => {
            for (;;) pool.release((await pool.acquire(1 + Math.floor(next() * 400_000))).fill(1))
          }
          await Promise.all([use(), use(), use(), use()])
        }, round)
        .catch(() => {})
      const end = performance.now() + 5 + round
      while (performance.now() < end) {
        pool.release(await pool.acquire(1 + ((round * 7919) % 500) * KIB))
        await turn()
      }
      await thread.terminate()
      // Nobody stands in line any more, and all can be had at once. But a thread that ends in the very
      // moment in which it is given a block may have it set aside for good.
      const { quarantinedBytes } = pool.stats()
      assert.ok(quarantinedBytes < MIB / 2, `${quarantinedBytes} bytes are set aside`)
      const most = blockSizes.filter((size) => size <= MIB - quarantinedBytes).at(-1)
      pool.release(await pool.acquire(most))
    }
    const { inUseCount, quarantinedBytes } = await balanced(pool)
    assert.equal(inUseCount, 0)
    if (quarantinedBytes > 0) context.diagnostic(`${quarantinedBytes} bytes are set aside`)
  })

  test('ends by itself while it waits, and lets the next be served', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = fill(pool)
    const worker = startWorker(
      context,
      pool,
      `
        pool.acquire(1024 * 1024)
        parentPort.once('message', () => process.exit())
      `
    )
    const exit = once(worker, 'exit')
    await until(() => pool.stats().waitCount === 1, 'it waits')
    const watched = watch(pool.acquire(64 * KIB))
    pool.release(held.pop())
    worker.postMessage('end')
    const [code] = await exit
    assert.equal(code, 0)
    releaseAll(pool, [...held, await watched.promise])
    await balanced(pool)
  })

  test(
    'is served by what another releases',
    inEveryMode(
      async (pool, _options, context) => {
        const [thread] = await crew(context, pool)
        await thread.run(({ pool, held }) => held.push(pool.allocUnsafe(1024 * 1024)))
        const here = pool.acquire(MIB)
        await thread.run(({ pool, held }) => pool.release(held.pop()))
        const buffer = await here
        const there = thread.run(async ({ pool }) => pool.release(await pool.acquire(1024 * 1024)))
        await until(() => pool.stats().waitCount === 2, 'the other waits')
        pool.release(buffer)
        await there
      },
      { maxBytes: MIB }
    )
  )

  test('is served by what was posted to another and is released there', {
    skip: !posts || !external
  }, async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const [thread] = await crew(context, pool)
    const buffer = pool.allocUnsafe(MIB)
    await thread.run(
      (self, buffer) => {
        self.buffer = buffer
      },
      buffer,
      [buffer.buffer]
    )
    const promise = pool.acquire(MIB)
    await thread.run(({ pool, buffer }) => pool.release(buffer))
    pool.release(await promise)
    await balanced(pool)
  })

  test('is served when what another has dropped is collected', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB, leakSampleRate: 0 })
    const [thread] = await crew(context, pool)
    await thread.run(({ pool }) => {
      for (let i = 0; i < 4; i++) pool.allocUnsafe(256 * 1024)
    })
    const watched = watch(pool.acquire(MIB))
    await until(async () => {
      await thread.collect()
      return watched.state === 'resolved'
    }, 'all four are back')
    pool.release(await watched.promise)
    const { collectedCount } = await balanced(pool)
    assert.equal(collectedCount, 4)
  })
})

describe('what is dropped', LIMIT, () => {
  test(
    'serves who waits, once it is collected',
    inEveryMode(
      async (pool) => {
        const held = fill(pool)
        const waiters = [MIB / 2, MIB / 2].map((size) => watch(pool.acquire(size)))
        await settle()
        for (const { state } of waiters) assert.equal(state, 'pending')
        held.length = 0
        const areServed = () => waiters.every(({ state }) => state === 'resolved')
        await collectUntil(areServed, 'both are served')
        releaseAll(pool, await Promise.all(waiters.map(({ promise }) => promise)))
        assert.equal(pool.stats().collectedCount, 16)
      },
      { maxBytes: MIB, leakSampleRate: 0 }
    )
  )

  test('serves even those whose pool was dropped, too', async () => {
    const watched = (() => {
      const pool = new BufferPool({ maxBytes: MIB, leakSampleRate: 0 })
      pool.allocUnsafe(MIB)
      return watch(pool.acquire(1000))
    })()
    // A WeakRef holds its target for the rest of the job that made it.
    await settle()
    await collectUntil(() => watched.state === 'resolved', 'it is served')
    assert.equal(watched.value?.length, 1000)
  })
})

describe('a wait', LIMIT, () => {
  for (const [name, call] of Object.entries({
    'for memory': 'pool.acquire(100)',
    'for memory or a distant timeout':
      'pool.acquire(100, { signal: AbortSignal.timeout(600_000) })',
    'that others stand behind': 'for (let i = 0; i < 100; i++) pool.acquire(1_000_000)'
  })) {
    test(`${name} does not keep the process alive`, () => {
      const output = runScript(`
        const pool = new cistern.BufferPool({ maxBytes: 1 << 20 })
        const held = pool.allocUnsafe(1 << 20)
        process.on('exit', (code) => console.log('exit', code, held.length))
        ${call}
      `)
      assert.equal(output.trim(), 'exit 0 1048576')
    })
  }

  for (const [name, call] of Object.entries({
    'is idle': 'useAll()',
    'was trimmed before': 'useAll(); pool.trim()',
    'was released before': 'pool.release(pool.allocUnsafe(MIB))',
    'is released after': 'const held = pool.allocUnsafe(MIB); then = () => pool.release(held)'
  })) {
    test(`for memory that ${name} is served, with nothing else to do`, () => {
      const output = runScript(`
        const MIB = 2 ** 20
        const serve = async (detachOnRelease) => {
          const pool = new cistern.BufferPool({ maxBytes: MIB, detachOnRelease })
          const useAll = () => {
            const buffers = Array.from({ length: 16 }, () => pool.allocUnsafe(MIB / 16))
            for (const buffer of buffers) pool.release(buffer)
          }
          let then
          ${call}
          const promise = pool.acquire(MIB - 1000)
          then?.()
          console.log((await promise).length, pool.stats().inUseBytes)
        }
        serve(true).then(() => serve(false))
      `)
      assert.equal(output, '1047576 1048576\n'.repeat(2))
    })
  }
})

describe('several threads that wait, abort, lease and release for two seconds', LIMIT, () => {
  for (const { mode, options } of MODES.slice(0, 2)) {
    test(`all come to an end, and nothing is lost, ${mode}`, async (context) => {
      const maxBytes = MIB
      const pool = new BufferPool({ ...options, maxBytes, leakSampleRate: 0 })
      const threads = await crew(context, pool, 3)
      const work = async (self, { seed, milliseconds, dropped }) => {
        const { pool, random, turn } = self
        const next = random(seed)
        const below = (limit) => Math.floor(next() * limit)
        const counts = { served: 0, aborted: 0, foreign: 0, other: 0, dropped: 0, listeners: 0 }
        const end = performance.now() + milliseconds
        // A call of its own for each: what it drops is in no frame that lives on.
        const useOne = async () => {
          const size = 1 + below(next() < 0.1 ? 1024 * 1024 : 200 * 1024)
          const controller = new AbortController()
          const { signal } = controller
          const mayAbort = next() < 0.3
          if (mayAbort) setTimeout(() => controller.abort(), below(4))
          try {
            const buffer = await pool.acquire(size, mayAbort ? { signal } : {})
            counts.served++
            if (buffer.length !== size) counts.foreign++
            const mark = below(256)
            buffer.fill(mark)
            for (let i = below(3); i > 0; i--) await turn()
            if (!buffer.every((byte) => byte === mark)) counts.foreign++
            if (next() < 0.005) {
              counts.dropped++
              Atomics.add(dropped, 0, 1)
            } else {
              pool.release(buffer)
            }
          } catch ({ name }) {
            if (name === 'AbortError') counts.aborted++
            else counts.other++
          }
          counts.listeners += require('node:events').getEventListeners(signal, 'abort').length
        }
        const use = async () => {
          while (performance.now() < end) await useOne()
        }
        // What one has dropped must be collected for the others to go on, even when it has finished.
        self.collector = setInterval(() => {
          if (Atomics.load(dropped, 0) > pool.stats().collectedCount) globalThis.gc()
        }, 20)
        await Promise.all(Array.from({ length: 5 }, use))
        return counts
      }
      const self = { pool, random, turn }
      const dropped = new Int32Array(new SharedArrayBuffer(4))
      const data = (/** @type {number} */ seed) => ({ seed, milliseconds: 1500, dropped })
      const all = await Promise.all([
        ...threads.map((thread, i) => thread.run(work, data(i + 1))),
        work(self, data(4))
      ])
      clearInterval(self.collector)
      const total = {}
      for (const counts of all) {
        assert.ok(counts.served > 0 && counts.aborted > 0, JSON.stringify(counts))
        for (const [name, count] of Object.entries(counts)) {
          total[name] = (total[name] ?? 0) + count
        }
      }
      context.diagnostic(JSON.stringify(total))
      const { foreign, other, listeners } = total
      assert.deepEqual({ foreign, other, listeners }, { foreign: 0, other: 0, listeners: 0 })
      await until(async () => {
        globalThis.gc()
        await settle()
        await Promise.all(threads.map((thread) => thread.collect()))
        return pool.stats().inUseCount === 0
      }, 'all is back')
      const stats = await balanced(pool)
      assert.ok(stats.waitCount > 0)
      assert.equal(stats.allocCount, total.served)
      assert.equal(stats.collectedCount, total.dropped)
      assert.equal(stats.quarantinedBytes, 0)
      assert.ok(stats.freshBytes - stats.freedBytes <= maxBytes)
      pool.release(await pool.acquire(maxBytes))
    })
  }
})

/** One thread's waits and what should become of them, for fast-check. */
class Model {
  line = new Line(Model.CEILING)
  /** @type {Map<number, { size: number, watched: ReturnType<typeof watch>, abort: () => void }>} */
  waiting = new Map()
  /** @type {{ buffer: Buffer, size: number, byte: number }[]} */
  held = []
  lastId = 0
  waitCount = 0
  isClosed = false

  static CEILING = 64 * KIB

  /** Those who should be served by now are, and nobody else. */
  async serves(/** @type {number[]} */ ids) {
    await handedOn()
    for (const id of ids) {
      const { size, watched } = this.waiting.get(id)
      this.waiting.delete(id)
      assert.equal(watched.state, 'resolved', `the wait for ${size} bytes should be over`)
      assert.equal(watched.value.length, size)
      this.hold(watched.value, size)
    }
    for (const { size, watched } of this.waiting.values()) {
      assert.equal(watched.state, 'pending', `the wait for ${size} bytes should go on`)
    }
  }

  hold(/** @type {Buffer} */ buffer, /** @type {number} */ size) {
    const byte = (this.lastId * 37) % 256
    this.held.push({ buffer: buffer.fill(byte), size, byte })
  }

  agreesWith(/** @type {BufferPool} */ pool) {
    const { inUseBytes, idleBytes, quarantinedBytes, waitCount, inUseCount } = pool.stats()
    assert.equal(inUseCount, this.held.length)
    assert.equal(inUseBytes, Model.CEILING - this.line.free)
    if (givesAtOnce) assert.equal(waitCount, this.waitCount)
    else assert.ok(waitCount >= this.waitCount, 'who is served by what is idle may have waited')
    assert.ok(inUseBytes + idleBytes + quarantinedBytes <= Model.CEILING)
    for (const { buffer, byte } of this.held) {
      assert.ok(pool.owns(buffer))
      assert.ok(
        buffer.every((value) => value === byte),
        'a foreign byte'
      )
    }
  }
}

function calls() {
  const size = fc.oneof(
    fc.integer({ min: 1, max: 8 * KIB }),
    fc.integer({ min: 1, max: Model.CEILING + 1000 })
  )
  const acquire = size.map(
    (size) =>
      new Call(
        `acquire(${size})`,
        () => true,
        async (model, pool) => {
          const controller = new AbortController()
          const watched = watch(pool.acquire(size, { signal: controller.signal }))
          if (model.isClosed || blockOf(size) > Model.CEILING) {
            const { code } = model.isClosed ? CLOSED : EXHAUSTED
            await microtasks()
            assert.equal(watched.error?.code, code)
            return
          }
          const id = ++model.lastId
          model.waiting.set(id, { size, watched, abort: () => controller.abort() })
          const served = model.line.join(id, size)
          if (served.length === 0) model.waitCount++
          await model.serves(served)
        }
      )
  )
  const alloc = size.map(
    (size) =>
      new Call(
        `alloc(${size})`,
        () => true,
        async (model, pool) => {
          const hasRoom = model.line.length === 0 && blockOf(size) <= model.line.free
          if (model.isClosed || !hasRoom) {
            assert.throws(() => pool.alloc(size), model.isClosed ? CLOSED : EXHAUSTED)
            return
          }
          model.line.free -= blockOf(size)
          model.hold(await roomFor(() => pool.alloc(size)), size)
        }
      )
  )
  const release = fc.nat().map(
    (which) =>
      new Call(
        `release(${which})`,
        (model) => model.held.length > 0,
        async (model, pool) => {
          const [{ buffer, size }] = model.held.splice(which % model.held.length, 1)
          pool.release(buffer)
          await model.serves(model.line.giveBack(size))
        }
      )
  )
  const abort = fc.nat().map(
    (which) =>
      new Call(
        `abort(${which})`,
        (model) => model.waiting.size > 0,
        async (model) => {
          const ids = [...model.waiting.keys()]
          const id = ids[which % ids.length]
          const { watched, abort } = model.waiting.get(id)
          model.waiting.delete(id)
          abort()
          await model.serves(model.line.leave(id))
          assert.equal(watched.error?.name, 'AbortError')
        }
      )
  )
  const trim = fc.constant(
    new Call(
      'trim()',
      () => true,
      async (model, pool) => {
        pool.trim()
        await model.serves([])
      }
    )
  )
  const yielding = fc.constant(
    new Call(
      'turn()',
      () => true,
      async (model) => {
        await turn()
        await model.serves([])
      }
    )
  )
  const close = fc.constant(
    new Call(
      'close()',
      () => true,
      async (model, pool) => {
        pool.close()
        model.isClosed = true
        await microtasks()
        for (const { watched } of model.waiting.values()) {
          assert.equal(watched.error?.code, CLOSED.code)
        }
        model.waiting.clear()
        model.line = new Line(model.line.free)
      }
    )
  )
  // Closing is the end of everything that is of interest here.
  const often = [acquire, acquire, acquire, alloc, release, release, release, abort, trim, yielding]
  return fc.commands([...often, ...often, ...often, close], { maxCommands: 80, size: 'max' })
}

for (const { mode, options } of MODES) {
  test(`A line agrees with its model, ${mode}`, async () => {
    const pools = []
    await fc.assert(
      fc.asyncProperty(calls(), async (commands) => {
        const settings = { maxBytes: Model.CEILING, onExhausted: 'throw', idleTimeout: Infinity }
        const pool = new BufferPool({ ...options, ...settings })
        pools.push(pool)
        await fc.asyncModelRun(() => ({ model: new Model(), real: pool }), commands)
      }),
      { numRuns: 100 }
    )
    for (const pool of pools) await balanced(pool)
  })
}
