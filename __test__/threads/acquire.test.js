'use strict'

/**
 * `acquire` across threads and event-loop turns: the end of a thread, dropped waiters, and random
 * sequences of calls.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { after, before, describe, test } = require('node:test')
const { setImmediate: turn } = require('node:timers/promises')
const { Worker } = require('node:worker_threads')
const fc = require('fast-check')
const { BufferPool } = require('../..')
const { blockSizes } = require('../../lib/cache/size-class')
const { attachThreads } = require('../support/attached-threads')
const {
  MODES,
  balanced,
  collectUntil,
  endsShow,
  external,
  inEveryMode,
  posts,
  runScript,
  settle,
  until
} = require('../support/helpers')
const { random } = require('../support/torture')
const {
  EXHAUSTED,
  KIB,
  LIMIT,
  MIB,
  calls,
  fill,
  Model,
  releaseAll,
  watch
} = require('../support/waiters')

/**
 * Waiting for what this thread has leased itself keeps no event loop alive, so something else must.
 */
let alive
before(() => {
  alive = setInterval(() => {}, 1000)
})
after(() => clearInterval(alive))

describe('a thread', LIMIT, () => {
  /**
   * Starts a worker that runs a script, with `pool` in scope.
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
      const threads = await attachThreads(context, pool, 2)
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
    const [thread] = await attachThreads(context, pool)
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
      const [thread] = await attachThreads(context, pool)
      const held = pool.allocUnsafe(MIB)
      const flag = new Int32Array(new SharedArrayBuffer(8))
      thread
        .run(({ pool }, flag) => {
          pool.acquire(1024 * 1024)
          Atomics.store(flag, 0, 1)
          // The thread's event loop never turns, so it never learns of its grant.
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
      const [thread] = await attachThreads(context, pool)
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
      // The queue of waiters is empty, and all memory is available at once. But if a thread ends at
      // the moment in which it is given a block, that block may stay in quarantine.
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
        const [thread] = await attachThreads(context, pool)
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
    const [thread] = await attachThreads(context, pool)
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
    const [thread] = await attachThreads(context, pool)
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

describe('a dropped block', LIMIT, () => {
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
      const threads = await attachThreads(context, pool, 3)
      const work = async (self, { seed, milliseconds, dropped }) => {
        const { pool, random, turn } = self
        const next = random(seed)
        const below = (limit) => Math.floor(next() * limit)
        const counts = { served: 0, aborted: 0, foreign: 0, other: 0, dropped: 0, listeners: 0 }
        const end = performance.now() + milliseconds
        // A call of its own for each: then no frame that lives on has the dropped lease.
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
        // The others can only go on when a thread's dropped blocks are collected, even after it has
        // finished.
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

for (const { mode, options } of MODES) {
  test(`A queue of waiters agrees with its model, ${mode}`, async () => {
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
