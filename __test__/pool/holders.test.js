'use strict'

/** `holders()`: the call sites of the sampled leases that are held now. */

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const { BufferPool, shared } = require('../..')
const {
  eventually,
  external,
  inEveryMode,
  moves,
  posts,
  runScript,
  until
} = require('../support/helpers')
const { Thread } = require('../support/thread')

const SIZE = 1000
const BLOCK_SIZE = 1024

/** Returns what `holders` shows, by the name of the function on top of each stack. */
function holdersByName(pool) {
  return pool.holders().map(({ stack, count, bytes }) => {
    const [, name] = /^ +at (?:async )?(?:[\w.]*\.)?(\w+) \(.*\)(?:$|\n)/.exec(stack) ?? [
      undefined,
      stack
    ]
    return [name, count, bytes]
  })
}

function leaseSmall(pool) {
  return pool.allocUnsafe(SIZE)
}

function leaseLarge(pool) {
  return pool.allocUnsafe(100 * SIZE)
}

describe('holders', () => {
  test(
    'shows each call site with its leases, the most bytes first',
    inEveryMode(
      (pool) => {
        assert.deepEqual(pool.holders(), [])
        const small = Array.from({ length: 50 }, () => leaseSmall(pool))
        const large = Array.from({ length: 2 }, () => leaseLarge(pool))
        const largeBytes = pool.stats().inUseBytes - 50 * BLOCK_SIZE
        assert.deepEqual(holdersByName(pool), [
          ['leaseLarge', 2, largeBytes],
          ['leaseSmall', 50, 50 * BLOCK_SIZE]
        ])
        pool.release(large[0])
        for (const buffer of small.slice(1)) pool.release(buffer)
        assert.deepEqual(holdersByName(pool), [
          ['leaseLarge', 1, largeBytes / 2],
          ['leaseSmall', 1, BLOCK_SIZE]
        ])
        pool.release(large[1].subarray(10))
        pool.release(small[0].buffer)
        assert.deepEqual(pool.holders(), [])
      },
      { leakSampleRate: 1 }
    )
  )

  /** The ways to lease: each gives what ends the lease. */
  const WAYS = {
    allocUnsafe: function byAllocUnsafe(pool) {
      const buffer = pool.allocUnsafe(SIZE)
      return () => pool.release(buffer)
    },
    alloc: function byAlloc(pool) {
      const buffer = pool.alloc(SIZE)
      return () => pool.release(buffer)
    },
    'alloc with a fill': function byFill(pool) {
      const buffer = pool.alloc(SIZE, 'fill')
      return () => pool.release(buffer)
    },
    lease: function byLease(pool) {
      const lease = pool.lease(SIZE)
      return () => lease.release()
    },
    byteBuffer: function byByteBuffer(pool) {
      const bytes = pool.byteBuffer(SIZE)
      return () => bytes.release()
    },
    acquire: async function byAcquire(pool) {
      const promise = pool.acquire(SIZE)
      const buffer = await promise
      return () => pool.release(buffer)
    }
  }
  for (const [name, way] of Object.entries(WAYS)) {
    test(
      `shows what is leased by ${name}, until it is released`,
      inEveryMode(
        async (pool) => {
          const end = await way(pool)
          assert.deepEqual(holdersByName(pool), [[way.name, 1, BLOCK_SIZE]])
          end()
          assert.deepEqual(pool.holders(), [])
        },
        { leakSampleRate: 1 }
      )
    )
  }

  test(
    'shows who has waited by where that was asked for',
    inEveryMode(
      async (pool) => {
        const inTheWay = leaseSmall(pool)
        const waiting = (function asksFirst() {
          return pool.acquire(SIZE)
        })()
        assert.deepEqual(holdersByName(pool), [['leaseSmall', 1, BLOCK_SIZE]])
        ;(function makesRoom() {
          pool.release(inTheWay)
        })()
        const buffer = await waiting
        assert.deepEqual(holdersByName(pool), [['asksFirst', 1, BLOCK_SIZE]])
        pool.release(buffer)
        assert.deepEqual(pool.holders(), [])
      },
      { leakSampleRate: 1, maxBytes: BLOCK_SIZE }
    )
  )

  test('shows a plain frozen snapshot', () => {
    const pool = new BufferPool({ leakSampleRate: 1 })
    const buffer = leaseSmall(pool)
    const holders = pool.holders()
    assert.ok(Array.isArray(holders) && Object.isFrozen(holders))
    assert.equal(Object.getPrototypeOf(holders[0]), Object.prototype)
    assert.ok(Object.isFrozen(holders[0]))
    assert.deepEqual(Object.keys(holders[0]), ['stack', 'count', 'bytes', 'oldestMs'])
    pool.release(buffer)
    assert.equal(holders[0].count, 1)
  })

  test('shows for how long the oldest is leased', async () => {
    const pool = new BufferPool({ leakSampleRate: 1 })
    const before = performance.now()
    const buffers = Array.from({ length: 2 }, () => leaseSmall(pool))
    const leased = performance.now()
    await until(() => performance.now() > leased + 20, '20 ms have gone by')
    const [{ count, oldestMs }] = pool.holders()
    assert.equal(count, 2)
    assert.ok(oldestMs >= 20 && oldestMs <= performance.now() - before, `${oldestMs} ms`)
    pool.release(buffers[0])
    const [{ oldestMs: ofTheOther }] = pool.holders()
    assert.ok(ofTheOther >= 20 && ofTheOther < performance.now() - before)
  })

  test(
    'shows no lease that the garbage collector has ended',
    inEveryMode(
      async (pool) => {
        const kept = leaseSmall(pool)
        ;(() => {
          for (let i = 0; i < 20; i++) leaseLarge(pool)
        })()
        await eventually(() => pool.stats().collectedCount === 20, 'all are collected')
        assert.deepEqual(holdersByName(pool), [['leaseSmall', 1, BLOCK_SIZE]])
        pool.release(kept)
      },
      { leakSampleRate: 1 }
    )
  )

  test('reports no leak while a call of the pool runs, and reports it later', () => {
    const output = runScript(`
      const { subscribe } = require('node:diagnostics_channel')
      const pool = new cistern.BufferPool({ leakSampleRate: 1 })
      let isAsked = false
      const told = []
      subscribe('cistern:leak', ({ count }) => told.push([count, isAsked]))
      for (let i = 0; i < 5; i++) pool.allocUnsafe(1000)
      const ask = () => {
        isAsked = true
        const { length } = pool.holders()
        isAsked = false
        return length
      }
      ;(async () => {
        while (ask() > 0 || told.length < 5) {
          globalThis.gc()
          await new Promise(setImmediate)
        }
        console.log(JSON.stringify(told))
      })()
    `)
    assert.deepEqual(
      JSON.parse(output),
      [1, 2, 3, 4, 5].map((count) => [count, false])
    )
  })

  test(
    'shows a lease whose memory was transferred, until it is released there',
    { skip: !moves || !external },
    inEveryMode(
      async (pool) => {
        const moved = leaseSmall(pool).buffer.transfer()
        assert.deepEqual(holdersByName(pool), [['leaseSmall', 1, BLOCK_SIZE]])
        pool.release(moved)
        await eventually(() => pool.holders().length === 0, 'it is gone')
      },
      { leakSampleRate: 1 }
    )
  )

  test('shows a lease that was posted where it was taken, until it is released there', {
    skip: !posts || !external
  }, async () => {
    const pool = new BufferPool({ leakSampleRate: 1 })
    const thread = new Thread(pool.handle)
    const buffer = leaseSmall(pool)
    const take = (self, posted) => {
      self.posted = posted
      return self.pool.holders().length
    }
    assert.equal(await thread.run(take, buffer, [buffer.buffer]), 0)
    assert.deepEqual(holdersByName(pool), [['leaseSmall', 1, BLOCK_SIZE]])
    await thread.run((self) => self.pool.release(self.posted))
    await eventually(() => pool.holders().length === 0, 'it is gone', [thread])
    await thread.terminate()
  })

  test('shows none at a rate of 0, and about so many at others', () => {
    const held = (leakSampleRate) => {
      const pool = new BufferPool({ leakSampleRate })
      const buffers = Array.from({ length: 8000 }, () => leaseSmall(pool))
      const [{ count = 0, bytes = 0 } = {}, ...others] = pool.holders()
      assert.deepEqual(others, [])
      assert.equal(bytes, count * BLOCK_SIZE)
      for (const buffer of buffers) pool.release(buffer)
      assert.deepEqual(pool.holders(), [])
      return count
    }
    assert.equal(held(0), 0)
    assert.equal(held(1), 8000)
    // 62.5 are expected, with a standard deviation of 7.9.
    const count = held(1 / 128)
    assert.ok(count > 20 && count < 110, `of 8,000 leases ${count} are shown`)
  })

  test('shows what is still leased from a closed pool', () => {
    const pool = new BufferPool({ leakSampleRate: 1 })
    const buffer = leaseSmall(pool)
    pool.close()
    assert.deepEqual(holdersByName(pool), [['leaseSmall', 1, BLOCK_SIZE]])
    pool.release(buffer)
    assert.deepEqual(pool.holders(), [])
  })

  test('is there for the pool of all threads, too', () => {
    assert.ok(Array.isArray(shared.holders()))
  })

  test('runs no code of others, whatever they have patched', () => {
    const output = runScript(`
      const pool = new cistern.BufferPool({ leakSampleRate: 1 })
      function first() { return pool.allocUnsafe(1000) }
      function second() { return pool.allocUnsafe(100_000) }
      const buffers = [first(), second()]
      const { writeSync } = require('node:fs')
      let seen = ''
      const spy = (name) => () => { seen += name + ' ' }
      for (const name of ['stack', 'count', 'bytes', 'oldestMs', 'at', 'size']) {
        Object.defineProperty(Object.prototype, name, { set: spy(name), configurable: true })
      }
      const patches = [Map, Array, Set].flatMap((Class) =>
        Reflect.ownKeys(Class.prototype).map((key) => ({ Class, key, name: Class.name + String(key) })))
      for (let i = 0; i < patches.length; i++) {
        const { Class, key, name } = patches[i]
        const { configurable } = Object.getOwnPropertyDescriptor(Class.prototype, key)
        if (!configurable || key === 'constructor') continue
        Object.defineProperty(Class.prototype, key, { __proto__: null, get: spy(name) })
      }
      Object.defineProperty(Array.prototype, 0, { __proto__: null, set: spy('0') })
      const holders = pool.holders()
      const before = seen
      writeSync(1, '[' + before + '] ' + holders[0].count + ' ' + holders[1].count)
      process.reallyExit(0)
    `)
    assert.equal(output, '[] 1 1')
  })
})
