'use strict'

/**
 * A lease that finds no room below the ceiling: it throws, or V8 serves it, and `cistern:exhausted`
 * reports it.
 */

const assert = require('node:assert/strict')
const diagnostics = require('node:diagnostics_channel')
const { describe, test } = require('node:test')
const { BufferPool } = require('../..')
const { attachThreads } = require('../support/attached-threads')
const {
  balanced,
  eventually,
  givesAtOnce,
  inEveryMode,
  roomFor,
  settle
} = require('../support/helpers')
const { EXHAUSTED, KIB, MIB, fill, releaseAll } = require('../support/ceiling')

/**
 * Makes idle memory available to any class, if that does not happen at once.
 *
 * @param {BufferPool} pool
 */
async function clear(pool) {
  if (givesAtOnce) return
  pool.trim()
  await settle()
}

/** Returns the messages of `cistern:exhausted` that are published while something runs. */
async function exhaustedDuring(work) {
  const messages = []
  const listen = (message) => messages.push(message)
  diagnostics.subscribe('cistern:exhausted', listen)
  try {
    await work()
  } finally {
    diagnostics.unsubscribe('cistern:exhausted', listen)
  }
  return messages
}

describe("onExhausted: 'throw'", () => {
  const CALLS = {
    allocUnsafe: (pool, size) => pool.allocUnsafe(size),
    alloc: (pool, size) => pool.alloc(size),
    'alloc with a fill': (pool, size) => pool.alloc(size, 'abc'),
    lease: (pool, size) => pool.lease(size),
    'lease with zeros': (pool, size) => pool.lease(size, { zero: true })
  }

  for (const [name, call] of Object.entries(CALLS)) {
    test(
      `has ${name} throw, and lose nothing`,
      inEveryMode(
        async (pool) => {
          const held = fill(pool, 128 * KIB).map((buffer, i) => buffer.fill(i))
          const before = pool.stats()
          for (const size of [1, 100, 128 * KIB, 200 * KIB, MIB, 2 * MIB]) {
            assert.throws(() => call(pool, size), {
              ...EXHAUSTED,
              message: new RegExp(`'narrow'.*"size".*maxBytes is ${MIB}\\b.*Received ${size}$`)
            })
            assert.deepEqual(pool.stats(), before)
          }
          held.forEach((buffer, i) => {
            assert.ok(buffer.every((byte) => byte === i))
          })
          pool.release(held.pop())
          // Either a Buffer or a Lease: both have a `buffer` that can be released.
          const given = await roomFor(() => call(pool, 100 * KIB))
          assert.ok(pool.owns(given.buffer))
          assert.throws(() => call(pool, 100 * KIB), EXHAUSTED)
          pool.release(given.buffer)
          releaseAll(pool, held)
          const { inUseCount, unpooledCount } = await balanced(pool)
          assert.deepEqual({ inUseCount, unpooledCount }, { inUseCount: 0, unpooledCount: 0 })
        },
        { name: 'narrow', maxBytes: MIB, onExhausted: 'throw' }
      )
    )
  }

  test('holds in every thread', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB, onExhausted: 'throw' })
    const held = fill(pool, 256 * KIB)
    const [thread] = await attachThreads(context, pool)
    for (const call of [
      ({ pool }) => pool.allocUnsafe(10),
      ({ pool }) => pool.alloc(10),
      ({ pool }) => pool.lease(10)
    ]) {
      await assert.rejects(thread.run(call), EXHAUSTED)
    }
    releaseAll(pool, held)
  })

  test('leaves other errors as they are', () => {
    const pool = new BufferPool({ maxBytes: 1, onExhausted: 'throw' })
    assert.throws(() => pool.allocUnsafe(-1), { code: 'ERR_OUT_OF_RANGE' })
    assert.throws(() => pool.allocUnsafe('1'), { code: 'ERR_INVALID_ARG_TYPE' })
    pool.close()
    assert.throws(() => pool.allocUnsafe(1), { code: 'ERR_CISTERN_CLOSED' })
    assert.throws(() => pool.alloc(1), { code: 'ERR_CISTERN_CLOSED' })
  })

  test('refuses a call, and not the one after it, when there is room again', async () => {
    const pool = new BufferPool({ maxBytes: MIB, onExhausted: 'throw' })
    for (const call of Object.values(CALLS)) {
      const held = await roomFor(() => pool.allocUnsafe(MIB))
      assert.throws(() => call(pool, 10), EXHAUSTED)
      pool.release(held)
      const given = await roomFor(() => call(pool, 10))
      pool.release(given.buffer)
    }
    assert.equal(pool.stats().inUseCount, 0)
  })

  test('does not refuse a call because a ByteBuffer was refused', () => {
    for (const call of Object.values(CALLS)) {
      for (const detachOnRelease of [true, false]) {
        const pool = new BufferPool({ maxBytes: MIB, onExhausted: 'throw', detachOnRelease })
        const held = pool.allocUnsafe(MIB / 2)
        const bytes = pool.byteBuffer(10)
        for (const refused of [() => pool.byteBuffer(MIB), () => bytes.append(Buffer.alloc(MIB))]) {
          assert.throws(refused, EXHAUSTED)
          pool.release(call(pool, 10).buffer)
        }
        bytes.release()
        pool.release(held)
      }
    }
  })

  test('does not refuse a call because an earlier one had to wait', async () => {
    for (const call of Object.values(CALLS)) {
      const pool = new BufferPool({ maxBytes: MIB, onExhausted: 'throw' })
      const held = pool.allocUnsafe(MIB)
      const promise = pool.acquire(MIB)
      pool.release(held)
      pool.release(await promise)
      const given = await roomFor(() => call(pool, 10))
      pool.release(given.buffer)
    }
  })
})

describe("onExhausted: 'unpooled'", () => {
  test(
    'has V8 serve what finds no room',
    inEveryMode(
      async (pool) => {
        const held = fill(pool, 256 * KIB)
        const before = pool.stats()
        const buffers = [
          pool.allocUnsafe(1000),
          pool.allocUnsafe(64 * KIB),
          pool.alloc(1000),
          pool.alloc(1000, 'abc'),
          pool.lease(1000, { zero: true }).buffer
        ]
        assert.deepEqual(
          buffers.map(({ length }) => length),
          [1000, 64 * KIB, 1000, 1000, 1000]
        )
        assert.ok(buffers[2].equals(Buffer.alloc(1000)))
        assert.ok(buffers[3].equals(Buffer.alloc(1000, 'abc')))
        assert.ok(buffers[4].equals(Buffer.alloc(1000)))
        for (const buffer of buffers) assert.ok(Buffer.isBuffer(buffer) && pool.owns(buffer))
        const { unpooledCount, allocCount, allocBytes, ...rest } = pool.stats()
        assert.equal(unpooledCount, 5)
        assert.equal(allocCount, before.allocCount + 5)
        assert.equal(allocBytes, before.allocBytes + 4000 + 64 * KIB)
        for (const name of [
          'inUseCount',
          'inUseBytes',
          'idleBytes',
          'freshBytes',
          'peakInUseBytes'
        ]) {
          assert.equal(rest[name], before[name], name)
        }
        releaseAll(pool, [...buffers, ...held])
        const stats = await balanced(pool)
        assert.equal(stats.releaseCount, stats.allocCount)
        assert.equal(stats.idleBytes, MIB, 'and it is V8 that has them back')
      },
      { maxBytes: MIB }
    )
  )

  test(
    'gives what is released like any other',
    inEveryMode(
      (pool, options) => {
        const held = pool.allocUnsafe(64 * KIB)
        const buffer = pool.allocUnsafe(1000).fill(5)
        const other = new BufferPool(options)
        assert.equal(other.owns(buffer), false)
        assert.throws(() => other.release(buffer), { code: 'ERR_CISTERN_NOT_POOLED' })
        pool.release(buffer.subarray(10, 20))
        assert.equal(buffer.length, options.detachOnRelease === false ? 1000 : 0)
        assert.equal(pool.owns(buffer), false)
        assert.throws(() => pool.release(buffer), { code: 'ERR_CISTERN_ALREADY_RELEASED' })
        if (options.zeroOnRelease) assert.ok(buffer.equals(Buffer.alloc(buffer.length)))
        const lease = pool.lease(1000)
        assert.ok(pool.owns(lease.buffer))
        lease.release()
        lease.release()
        lease[Symbol.dispose]()
        assert.equal(pool.owns(lease.buffer), false)
        assert.equal(pool.stats().unpooledCount, 2)
        assert.equal(pool.stats().releaseCount, 2)
        pool.release(held)
      },
      { maxBytes: 64 * KIB }
    )
  )

  test('is what holds where nothing is said', () => {
    const pool = new BufferPool({ maxBytes: 1 })
    assert.equal(pool.allocUnsafe(10).length, 10)
    assert.equal(pool.stats().unpooledCount, 1)
  })

  test('has the pool serve again when there is room', async () => {
    const pool = new BufferPool({ maxBytes: MIB })
    const held = pool.allocUnsafe(MIB)
    const unpooled = Array.from({ length: 10 }, () => pool.allocUnsafe(1000))
    pool.release(held)
    await clear(pool)
    const pooled = Array.from({ length: 10 }, () => pool.alloc(1000))
    assert.equal(pool.stats().unpooledCount, 10)
    assert.equal(pool.stats().inUseCount, 10)
    releaseAll(pool, [...pooled, ...unpooled])
    await balanced(pool)
  })

  test('leaves nothing behind when its Buffers are dropped', async () => {
    const pool = new BufferPool({ maxBytes: 64 * KIB })
    const held = pool.allocUnsafe(64 * KIB)
    pool.allocUnsafe(1000)
    await eventually(() => pool.stats().collectedCount === 1, 'it is collected')
    pool.release(held)
    const { inUseCount, collectedCount } = await balanced(pool)
    assert.deepEqual({ inUseCount, collectedCount }, { inUseCount: 0, collectedCount: 1 })
  })
})

describe('cistern:exhausted', () => {
  test('says what a call gets that finds no room', async () => {
    for (const onExhausted of /** @type {const} */ (['unpooled', 'throw'])) {
      const pool = new BufferPool({ name: 'narrow', maxBytes: MIB, onExhausted })
      const held = pool.allocUnsafe(MIB)
      const calls = [
        () => pool.allocUnsafe(100),
        () => pool.alloc(200),
        () => pool.alloc(300, 'x'),
        () => pool.lease(400)
      ]
      let promise
      const messages = await exhaustedDuring(() => {
        for (const call of calls) {
          if (onExhausted === 'throw') assert.throws(call, EXHAUSTED)
          else call()
        }
        promise = pool.acquire(500)
      })
      const message = { pool: 'narrow', maxBytes: MIB }
      assert.deepEqual(messages, [
        { ...message, size: 100, outcome: onExhausted },
        { ...message, size: 200, outcome: onExhausted },
        { ...message, size: 300, outcome: onExhausted },
        { ...message, size: 400, outcome: onExhausted },
        { ...message, size: 500, outcome: 'wait' }
      ])
      pool.release(held)
      pool.release(await promise)
    }
  })

  test('says nothing while there is room, nor of what is no block of the pool', async () => {
    const pool = new BufferPool({ maxBytes: MIB, maxBlockSize: 128 * KIB, onExhausted: 'throw' })
    const messages = await exhaustedDuring(async () => {
      const held = fill(pool, 64 * KIB)
      pool.allocUnsafe(128 * KIB + 1)
      pool.allocUnsafe(0)
      await pool.acquire(128 * KIB + 1)
      releaseAll(pool, held)
      await clear(pool)
      pool.release(pool.allocUnsafe(128 * KIB))
      await clear(pool)
      pool.release(await pool.acquire(100))
    })
    assert.deepEqual(messages, [])
  })

  test('is published in the thread that was refused', async (context) => {
    const pool = new BufferPool({ name: 'narrow', maxBytes: 64 * KIB })
    const held = pool.allocUnsafe(64 * KIB)
    const [thread] = await attachThreads(context, pool)
    const here = await exhaustedDuring(async () => {
      const there = await thread.run(({ pool }) => {
        const messages = []
        require('node:diagnostics_channel').subscribe('cistern:exhausted', (message) => {
          messages.push(message)
        })
        pool.release(pool.allocUnsafe(10))
        return messages
      })
      const message = { pool: 'narrow', size: 10, maxBytes: 64 * KIB, outcome: 'unpooled' }
      assert.deepEqual(there, [message])
    })
    assert.deepEqual(here, [])
    pool.release(held)
  })
})

describe('a size above maxBlockSize', () => {
  test(
    'comes from V8, and does not count against the ceiling',
    inEveryMode(
      async (pool) => {
        const larges = [
          pool.allocUnsafe(3 * MIB),
          pool.alloc(3 * MIB),
          pool.lease(64 * KIB + 1).buffer
        ]
        const held = fill(pool, 64 * KIB)
        assert.equal(pool.stats().inUseBytes, MIB, 'all of it is there for blocks')
        larges.push(pool.allocUnsafe(3 * MIB), await pool.acquire(MIB))
        assert.deepEqual(
          larges.map(({ length }) => length),
          [3 * MIB, 3 * MIB, 64 * KIB + 1, 3 * MIB, MIB]
        )
        const { unpooledCount, inUseBytes, waitCount } = pool.stats()
        assert.deepEqual(
          { unpooledCount, inUseBytes, waitCount },
          { unpooledCount: 5, inUseBytes: MIB, waitCount: 0 }
        )
        assert.throws(() => pool.allocUnsafe(64 * KIB), EXHAUSTED)
        releaseAll(pool, [...larges, ...held])
        const stats = await balanced(pool)
        assert.equal(stats.releaseCount, 21)
      },
      { maxBytes: MIB, maxBlockSize: 64 * KIB, onExhausted: 'throw' }
    )
  )
})
