'use strict'

/**
 * The queue of waiters: in which order they get memory, and how `AbortSignal` and `close` end a
 * wait.
 *
 * The first waiter gets a block as soon as one fits. Nobody overtakes it.
 */

const assert = require('node:assert/strict')
const diagnostics = require('node:diagnostics_channel')
const { getEventListeners } = require('node:events')
const { describe, test } = require('node:test')
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { attachThreads } = require('../support/attached-threads')
const { MODES, balanced, givesAtOnce, inEveryMode, settle, until } = require('../support/helpers')
const { random } = require('../support/torture')
const {
  ABORTED,
  CLOSED,
  EXHAUSTED,
  KIB,
  LIMIT,
  MIB,
  fill,
  handedOn,
  WaiterQueue,
  microtasks,
  releaseAll,
  watch
} = require('../support/waiters')

describe('the queue of waiters', LIMIT, () => {
  test(
    'is served in the order of arrival, whatever the sizes',
    inEveryMode(
      async (pool) => {
        const next = random(7)
        const below = (/** @type {number} */ limit) => Math.floor(next() * limit)
        const held = fill(pool)
        const sizes = Array.from({ length: 60 }, () => 1 + below(next() < 0.2 ? MIB : 100 * KIB))
        const line = new WaiterQueue(0)
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
      const threads = await attachThreads(context, pool, 3)
      const held = pool.allocUnsafe(MIB)
      // [0] counts the waiters that were served; from [1] on, each has its place in that order.
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
    const threads = await attachThreads(context, pool, 3)
    const next = random(11)
    const below = (/** @type {number} */ limit) => Math.floor(next() * limit)
    const held = fill(pool).map((buffer) => ({ size: 64 * KIB, free: () => pool.release(buffer) }))
    const sizes = Array.from({ length: 40 }, () => 1 + below(next() < 0.2 ? MIB : 100 * KIB))
    const flags = new Int32Array(new SharedArrayBuffer(4 * sizes.length))
    const served = () => [...flags.keys()].filter((id) => Atomics.load(flags, id) === 1)
    const line = new WaiterQueue(0)
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
    const threads = await attachThreads(context, pool, 2)
    for (const thread of threads) {
      await thread.run(({ pool, held }) => {
        held.push(pool.allocUnsafe(64 * 1024), pool.allocUnsafe(64 * 1024))
        // This block is idle there.
        pool.release(held.pop())
      })
    }
    const large = watch(pool.acquire(MIB))
    // With that the threads have been asked for their idle blocks, and have given them up.
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

  test('is not overtaken by threads that do not know of it yet', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB, idleTimeout: Infinity })
    const [thread] = await attachThreads(context, pool)
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
    const threads = await attachThreads(context, pool, 2)
    // [0] ends the threads; the others count the blocks that each thread got.
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
      // This takes the whole ceiling, so each thread must have nothing at some time.
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
    'that fires has the next waiter served',
    inEveryMode(
      async (pool) => {
        const held = fill(pool)
        const controllers = Array.from({ length: 4 }, () => new AbortController())
        const waiters = [MIB, 64 * KIB, MIB, 128 * KIB].map((size, i) =>
          watch(pool.acquire(size, { signal: controllers[i].signal }))
        )
        const states = () => waiters.map(({ state }) => state[0]).join('')
        // Aborts one in the middle of the queue.
        controllers[2].abort()
        releaseAll(pool, held.splice(0, 2))
        await settle()
        assert.equal(states(), 'pprp')
        // The first waiter: there is room for the next, but not for the one after.
        controllers[0].abort()
        await microtasks()
        assert.equal(states(), 'rrrp')
        assert.equal(pool.stats().inUseBytes, MIB - 64 * KIB)
      },
      { maxBytes: MIB }
    )
  )

  test('that fires leaves no trace in a queue across threads', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const [thread] = await attachThreads(context, pool)
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
        // The block is granted, and its thread knows; the code that awaits it does not.
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
    const [thread] = await attachThreads(context, pool)
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
      const threads = await attachThreads(context, pool, 3)
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

  test('leaves no thread with a block that was granted at that moment', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB })
    const [thread] = await attachThreads(context, pool)
    await thread.run(({ pool, held }) => held.push(pool.allocUnsafe(1024 * 1024)))
    const promise = pool.acquire(MIB)
    // From then on the thread gives up the blocks that are released to it.
    await thread.run(({ settle }) => settle())
    const flag = new Int32Array(new SharedArrayBuffer(4))
    const released = thread.run(({ pool, held }, flag) => {
      pool.release(held.pop())
      Atomics.store(flag, 0, 1)
      Atomics.notify(flag, 0)
    }, flag)
    Atomics.wait(flag, 0, 0, 10_000)
    // The block is granted, and this thread's event loop has not turned since.
    pool.close()
    await assert.rejects(promise, CLOSED)
    await released
    const { inUseCount, idleCount } = await balanced(pool)
    assert.deepEqual({ inUseCount, idleCount }, { inUseCount: 0, idleCount: 0 })
  })
})
