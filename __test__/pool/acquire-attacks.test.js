'use strict'

/**
 * Code that runs within a lease or a wait: formatters of stacks, signals, subscribers, watched
 * promises.
 */

const assert = require('node:assert/strict')
const { subscribe, unsubscribe } = require('node:diagnostics_channel')
const { describe, test } = require('node:test')
const { BufferPool } = require('../..')
const { balanced, inEveryMode, settle } = require('../support/helpers')

const KIB = 1024

/** Every lease's call site is recorded: a formatter of stacks runs within each. */
const SAMPLED = { leakSampleRate: 1 }

/** Runs `use` with a formatter of stacks that calls `act` once. */
async function formatting(act, use) {
  const before = Error.prepareStackTrace
  let isDone = false
  Error.prepareStackTrace = (error, frames) => {
    if (!isDone) {
      isDone = true
      act()
    }
    return `${error}\n${frames.join('\n')}`
  }
  try {
    return await use()
  } finally {
    Error.prepareStackTrace = before
    assert.ok(isDone, 'the formatter ran')
  }
}

/** Returns a signal with methods of its own. */
function signalThat({ onAdd = () => {}, onRemove = () => {} }) {
  let listener
  const signal = {
    aborted: false,
    reason: undefined,
    addEventListener(_type, callback) {
      listener = callback
      onAdd(signal)
    },
    removeEventListener() {
      onRemove(signal)
    },
    fire() {
      signal.aborted = true
      listener?.()
    }
  }
  return signal
}

describe('An abort is heard', () => {
  test(
    'by an acquire that has a block at once, from a formatter of stacks',
    inEveryMode(async (pool) => {
      const controller = new AbortController()
      await formatting(
        () => controller.abort(),
        () =>
          assert.rejects(pool.acquire(100, { signal: controller.signal }), { name: 'AbortError' })
      )
      await settle()
      assert.equal(pool.stats().inUseCount, 0)
    }, SAMPLED)
  )

  test(
    'by an acquire that is about to wait, from a formatter of stacks',
    inEveryMode(
      async (pool) => {
        const held = pool.allocUnsafe(16 * KIB)
        const controller = new AbortController()
        await formatting(
          () => controller.abort(),
          () =>
            assert.rejects(pool.acquire(16 * KIB, { signal: controller.signal }), {
              name: 'AbortError'
            })
        )
        pool.release(held)
        await settle()
        assert.equal(pool.stats().inUseCount, 0)
        // The queue of waiters is empty.
        pool.release(await pool.acquire(16 * KIB))
      },
      { ...SAMPLED, maxBytes: 16 * KIB }
    )
  )

  test(
    'by an acquire whose subscriber aborts before it waits',
    inEveryMode(
      async (pool) => {
        const held = pool.allocUnsafe(16 * KIB)
        const controller = new AbortController()
        const onExhausted = () => controller.abort()
        subscribe('cistern:exhausted', onExhausted)
        try {
          await assert.rejects(pool.acquire(KIB, { signal: controller.signal }), {
            name: 'AbortError'
          })
        } finally {
          unsubscribe('cistern:exhausted', onExhausted)
        }
        pool.release(held)
        await settle()
        assert.equal(pool.stats().waitCount, 0)
      },
      { maxBytes: 16 * KIB }
    )
  )

  test(
    'that fires as it is listened to',
    inEveryMode(
      async (pool) => {
        const held = pool.allocUnsafe(16 * KIB)
        const signal = signalThat({ onAdd: (signal) => signal.fire() })
        await assert.rejects(pool.acquire(KIB, { signal }), { name: 'AbortError' })
        pool.release(held)
        await settle()
        const { inUseCount, waitCount } = pool.stats()
        assert.deepEqual({ inUseCount, waitCount }, { inUseCount: 0, waitCount: 0 })
      },
      { maxBytes: 16 * KIB }
    )
  )
})

describe('A signal that fires as it is no longer listened to', () => {
  for (const [name, act] of [
    ['', (signal) => signal.fire()],
    [
      ', and throws,',
      (signal) => {
        signal.fire()
        throw new Error('on purpose')
      }
    ]
  ]) {
    test(
      `${name} leaves the lease to its owner`,
      inEveryMode(
        async (pool) => {
          const held = pool.allocUnsafe(16 * KIB)
          const signal = signalThat({ onRemove: act })
          const promise = pool.acquire(16 * KIB, { signal })
          pool.release(held)
          const buffer = await promise
          assert.ok(pool.owns(buffer))
          pool.release(buffer)
          await settle()
          assert.equal(pool.stats().inUseCount, 0)
        },
        { maxBytes: 16 * KIB }
      )
    )
  }

  test(
    ', and leases within that, is one owner of two',
    inEveryMode(
      async (pool) => {
        const held = pool.allocUnsafe(16 * KIB)
        const others = []
        const signal = signalThat({ onRemove: () => others.push(pool.allocUnsafe(8 * KIB)) })
        const promise = pool.acquire(8 * KIB, { signal })
        pool.release(held)
        const buffer = (await promise).fill(1)
        for (const other of others) {
          assert.notEqual(other.buffer, buffer.buffer)
          other.fill(2)
        }
        assert.ok(buffer.every((byte) => byte === 1))
        for (const each of [buffer, ...others]) pool.release(each)
      },
      { maxBytes: 16 * KIB }
    )
  )
})

describe('A lease that nobody has received yet', () => {
  test('can not be released by a stale view, from a formatter of stacks', async () => {
    const pool = new BufferPool({ detachOnRelease: false, ...SAMPLED })
    for (const lease of [
      () => pool.allocUnsafe(100),
      () => pool.lease(100).buffer,
      () => pool.alloc(100, 1),
      () => pool.acquire(100)
    ]) {
      const stale = pool.allocUnsafe(100)
      pool.release(stale)
      let error
      const buffer = await formatting(() => {
        try {
          pool.release(stale)
        } catch (thrown) {
          error = thrown
        }
      }, lease)
      assert.equal(error?.code, 'ERR_CISTERN_ALREADY_RELEASED')
      const other = pool.allocUnsafe(100)
      assert.notEqual(other.buffer, buffer.buffer, 'two owners')
      pool.release(other)
      pool.release(buffer)
    }
    await balanced(pool)
  })

  for (const [name, acquire] of [
    ['acquire', (pool) => pool.acquire(100)],
    ['acquireLease', (pool) => pool.acquireLease(100)]
  ]) {
    test(
      `is not shown by the promise of ${name}`,
      inEveryMode(async (pool) => {
        const descriptor = Object.getOwnPropertyDescriptor(Promise.prototype, 'constructor')
        const see = (value) => {
          // Code that sees a lease, or its Buffer, could end it and take the block.
          if (typeof value?.release === 'function' && value !== pool) value.release()
          if (ArrayBuffer.isView(value) && pool.owns(value)) pool.release(value)
        }
        const { then } = Promise.prototype
        const isWatched = new WeakSet()
        Object.defineProperty(Promise.prototype, 'constructor', {
          configurable: true,
          get() {
            if (!isWatched.has(this)) {
              isWatched.add(this)
              then.call(this, see, () => {})
            }
            return Promise
          }
        })
        Object.defineProperty(Object.prototype, 'then', {
          configurable: true,
          get() {
            see(this)
            return undefined
          }
        })
        let promise
        try {
          promise = acquire(pool)
          for (let i = 0; i < 10; i++) await null
        } finally {
          Object.defineProperty(Promise.prototype, 'constructor', descriptor)
          delete Object.prototype.then
        }
        const result = await promise
        const buffer = Buffer.isBuffer(result) ? result : result.buffer
        assert.ok(pool.owns(buffer), 'its owner has it')
        const other = pool.allocUnsafe(100)
        assert.notEqual(other.buffer, buffer.buffer, 'two owners')
        pool.release(other)
        pool.release(buffer)
      })
    )
  }

  test(
    'is not shown by a then that the class of leases has been given',
    inEveryMode(async (pool) => {
      const prototype = Object.getPrototypeOf(pool.lease(1))
      // biome-ignore lint/suspicious/noThenProperty: that is what other code does here
      prototype.then = function end() {
        this.release()
      }
      let lease
      try {
        lease = await pool.acquireLease(100)
      } finally {
        delete prototype.then
      }
      assert.ok(pool.owns(lease.buffer))
      lease.release()
    })
  )

  test(
    'is not shown by the class of Buffers',
    inEveryMode(async (pool) => {
      const FastBuffer = Buffer[Symbol.species]
      const parent = Object.getPrototypeOf(FastBuffer)
      const seen = []
      Object.setPrototypeOf(FastBuffer, function construct(...args) {
        seen.push(args[0])
        return Reflect.construct(Uint8Array, args, new.target)
      })
      const leases = []
      try {
        leases.push(pool.lease(100))
        leases.push({ buffer: await pool.acquire(100) })
        leases.push(await pool.acquireLease(100))
      } finally {
        Object.setPrototypeOf(FastBuffer, parent)
      }
      for (const { buffer } of leases) {
        assert.ok(!seen.includes(buffer.buffer))
        pool.release(buffer)
      }
    })
  )

  test(
    'that can not be filled ends once',
    inEveryMode(async (pool) => {
      const fill = {
        valueOf() {
          throw new Error('on purpose')
        }
      }
      assert.throws(() => pool.alloc(100, fill))
      await settle()
      assert.equal(pool.stats().inUseCount, 0)
    })
  )
})
