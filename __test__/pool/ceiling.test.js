'use strict'

/** `maxBytes`: the pool never exceeds it, and idle blocks make room below it. */

const assert = require('node:assert/strict')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { describe, test } = require('node:test')
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { attachThreads } = require('../support/attached-threads')
const {
  MODES,
  balanced,
  collectUntil,
  endsShow,
  external,
  inEveryMode,
  isChecked,
  posts,
  roomFor,
  runScript,
  until
} = require('../support/helpers')
const { random } = require('../support/torture')
const { EXHAUSTED, KIB, MIB, fill, releaseAll } = require('../support/ceiling')

/**
 * Does the same if something is idle.
 *
 * @param {BufferPool} pool that has nothing leased
 * @param {number} size a block's
 */
async function refill(pool, size) {
  const buffers = []
  for (let i = Math.floor(pool.stats().maxBytes / size); i > 0; i--) {
    buffers.push(await roomFor(() => pool.allocUnsafe(size)))
  }
  return buffers
}

/**
 * Returns the bytes that the pool holds by a snapshot: as a sum of what it has, and as fresh less
 * freed bytes.
 *
 * @param {import('../..').PoolStats} stats
 */
function heldBytes({ inUseBytes, idleBytes, quarantinedBytes, freshBytes, freedBytes }) {
  return [inUseBytes + idleBytes + quarantinedBytes, freshBytes - freedBytes]
}

/** Returns the limits of this process's control groups and their parents, in bytes. */
function groupLimits() {
  if (process.platform !== 'linux') return []
  const limits = []
  for (const line of fs.readFileSync('/proc/self/cgroup', 'utf8').split('\n')) {
    const [, controllers, group] = line.split(':')
    if (group === undefined) continue
    const top = `/sys/fs/cgroup${controllers === 'memory' ? '/memory' : ''}`
    for (let at = path.join(top, group); at.startsWith(top); at = path.dirname(at)) {
      for (const file of ['memory.max', 'memory.high', 'memory.limit_in_bytes']) {
        const limit = fs.existsSync(`${at}/${file}`) && fs.readFileSync(`${at}/${file}`, 'utf8')
        if (Number(limit) > 0) limits.push(Number(limit))
      }
    }
  }
  return limits
}

describe('maxBytes', () => {
  test('is a quarter of what the process may use, where it is not given', {
    skip: process.platform === 'win32'
  }, () => {
    const limits = [os.totalmem(), ...groupLimits()]
    // 0 or undefined if the runtime does not know it; more than the machine has if there is no
    // limit.
    if (process.constrainedMemory?.() > 0) limits.push(process.constrainedMemory())
    const { maxBytes } = new BufferPool().stats()
    assert.equal(maxBytes, Math.floor(Math.min(...limits) / 4))
  })

  test('is shown by stats, in all threads', async (context) => {
    const pool = new BufferPool({ maxBytes: 12_345 })
    const [thread] = await attachThreads(context, pool)
    assert.equal(pool.stats().maxBytes, 12_345)
    assert.equal(await thread.run(({ pool }) => pool.stats().maxBytes), 12_345)
  })

  test('may be Infinity', () => {
    assert.equal(new BufferPool({ maxBytes: Infinity }).stats().maxBytes, Infinity)
  })

  test('allows as much, to the byte', async () => {
    for (const maxBytes of [MIB, MIB + 63]) {
      const pool = new BufferPool({ maxBytes, onExhausted: 'throw' })
      const buffers = fill(pool, 64 * KIB)
      assert.equal(buffers.length, 16)
      assert.equal(pool.stats().inUseBytes, MIB)
      assert.throws(() => pool.allocUnsafe(1), EXHAUSTED)
      releaseAll(pool, buffers)
      const buffer = await roomFor(() => pool.allocUnsafe(MIB))
      assert.equal(buffer.length, MIB)
    }
    const pool = new BufferPool({ maxBytes: MIB - 1, onExhausted: 'throw' })
    assert.throws(() => pool.allocUnsafe(MIB), EXHAUSTED)
    const buffers = fill(pool, 64 * KIB)
    assert.equal(buffers.length, 15)
    assert.throws(() => pool.allocUnsafe(64 * KIB), EXHAUSTED)
    assert.equal(pool.allocUnsafe(48 * KIB).length, 48 * KIB)
  })

  test('distinguishes a request that can never fit from one that does not fit now', async () => {
    const pool = new BufferPool({ maxBytes: MIB, onExhausted: 'throw' })
    const never = { ...EXHAUSTED, message: /can never hold/ }
    assert.throws(() => pool.allocUnsafe(MIB + 1), never)
    await assert.rejects(pool.acquire(MIB + 1), never)
    const buffer = pool.allocUnsafe(MIB / 2)
    assert.throws(() => pool.allocUnsafe(MIB), {
      ...EXHAUSTED,
      message: /too much of it is leased/
    })
    pool.release(buffer)
  })

  test(
    'is never passed in one thread, whatever it leases, releases and drops',
    inEveryMode(
      async (pool) => {
        const next = random(20)
        const below = (/** @type {number} */ limit) => Math.floor(next() * limit)
        const held = []
        let served = 0
        for (let i = 0; i < 4000; i++) {
          if (next() < 0.55) {
            const size = 1 + below(next() < 0.1 ? 256 * KIB : 40 * KIB)
            held.push(pool.allocUnsafe(size).fill(i))
            served++
          } else if (held.length > 0) {
            const [buffer] = held.splice(below(held.length), 1)
            // The garbage collector returns dropped blocks.
            if (next() < 0.95) pool.release(buffer)
          }
          if (next() < 0.005) pool.trim(below(MIB))
          if (i % 100 === 0) await turn()
          if (i % 1000 === 0) globalThis.gc()
          const stats = pool.stats()
          for (const bytes of heldBytes(stats)) assert.ok(bytes <= MIB, `${bytes} bytes`)
        }
        const { unpooledCount, freshCount } = pool.stats()
        assert.ok(unpooledCount > 100, 'the ceiling was reached')
        assert.ok(served - unpooledCount > 100 && freshCount > 0, 'and there was room, too')
        releaseAll(pool, held)
        await collectUntil(() => pool.stats().inUseCount === 0, 'all is back')
        await balanced(pool)
      },
      { maxBytes: MIB, maxBlockSize: 256 * KIB, leakSampleRate: 0 }
    )
  )

  /** The task of each thread on the shared pool. */
  const hammer = async ({ pool, held, random, turn }, { seed, milliseconds, largest, trims }) => {
    const next = random(seed)
    const below = (limit) => Math.floor(next() * limit)
    const counts = { served: 0, refused: 0, foreign: 0 }
    const giveBack = (i) => {
      const [{ buffer, mark }] = held.splice(i, 1)
      if (!buffer.every((byte) => byte === mark)) counts.foreign++
      pool.release(buffer)
    }
    const end = performance.now() + milliseconds
    for (let i = 0; performance.now() < end; i++) {
      if (held.length < 30 && next() < 0.55) {
        const size = 1 + below(largest)
        try {
          const buffer = next() < 0.5 ? pool.allocUnsafe(size) : pool.lease(size).buffer
          const mark = below(256)
          held.push({ buffer: buffer.fill(mark), mark })
          counts.served++
        } catch ({ code }) {
          if (code !== 'ERR_CISTERN_EXHAUSTED') throw new Error(`an error with code ${code}`)
          counts.refused++
        }
      } else if (held.length > 0) {
        giveBack(below(held.length))
      }
      if (next() < trims) pool.trim(below(largest))
      if (i % 50 === 0) await turn()
    }
    while (held.length > 0) giveBack(0)
    return counts
  }

  /**
   * Uses a pool from three threads without pause, and reads its statistics all the time.
   *
   * @param {import('node:test').TestContext} context
   * @param {object} options
   * @param {number} trims
   * @param {(stats: import('../..').PoolStats, before: import('../..').PoolStats) => void} look
   */
  async function hammered(context, options, trims, look) {
    const pool = new BufferPool({ maxBytes: 2 * MIB, onExhausted: 'throw', ...options })
    const threads = await attachThreads(context, pool, 3)
    let isOver = false
    const ends = threads.map((thread, seed) => {
      return thread.run(hammer, { seed, milliseconds: 1000, largest: 150 * KIB, trims })
    })
    const all = Promise.all(ends).finally(() => {
      isOver = true
    })
    // The error is tested below.
    all.catch(() => {})
    for (let before = pool.stats(); !isOver; await turn()) {
      for (let i = 0; i < 50; i++) {
        const stats = pool.stats()
        look(stats, before)
        before = stats
      }
    }
    const counts = await all
    const sum = (/** @type {string} */ name) => counts.reduce((sum, each) => sum + each[name], 0)
    assert.ok(sum('refused') > 0, 'the ceiling was reached')
    assert.ok(sum('served') > 0, 'and there was room, too')
    assert.equal(sum('foreign'), 0, 'nobody wrote to what another had')
    await until(() => pool.stats().inUseCount === 0, 'all is back')
    const stats = await balanced(pool)
    assert.equal(stats.quarantinedBytes, 0)
    assert.equal(stats.allocCount, sum('served'))
  }

  for (const { mode, options } of MODES.slice(0, 2)) {
    test(`is never passed by several threads at once, ${mode}`, async (context) => {
      let looks = 0
      await hammered(context, options, 0.01, (stats, before) => {
        // Two equal snapshots in a row show that no block moved from one figure to another
        // meanwhile.
        const held = heldBytes(stats)
        if (String(held) !== String(heldBytes(before))) return
        looks++
        for (const bytes of held) assert.ok(bytes <= stats.maxBytes, `${bytes} bytes`)
      })
      assert.ok(looks > 0, 'pairs of snapshots agreed')
    })
  }

  test('is not exceeded in any snapshot of the totals, while blocks move', async (context) => {
    const most = [0, 0]
    await hammered(context, {}, 0.01, (stats) => {
      heldBytes(stats).forEach((bytes, i) => {
        most[i] = Math.max(most[i], bytes)
      })
    })
    for (const bytes of most) assert.ok(bytes <= 2 * MIB, `${bytes} bytes of ${2 * MIB}`)
  })

  test('bounds resident memory', {
    skip: !external || isChecked || process.platform !== 'linux'
  }, () => {
    const output = runScript(`
      const { Worker } = require('node:worker_threads')
      const { readFileSync } = require('node:fs')
      const MIB = 1024 * 1024
      const read = (name) => {
        const [, kib] = new RegExp(name + ':\\\\s*(\\\\d+)').exec(readFileSync('/proc/self/status'))
        return Number(kib) / 1024
      }
      const pool = new cistern.BufferPool({ maxBytes: 64 * MIB, onExhausted: 'throw' })
      const source = \`
        const { parentPort, workerData: { entry, handle } } = require('node:worker_threads')
        const pool = require(entry).BufferPool.attach(handle)
        const held = []
        parentPort.once('message', () => {
          let refused = 0
          const end = performance.now() + 800
          const step = () => {
            for (let i = 0; i < 60; i++) {
              try {
                held.push(pool.allocUnsafe(1 + ((i * 7919) % 1024) * 1024).fill(1))
              } catch {
                refused++
              }
            }
            while (held.length > 20) pool.release(held.shift())
            if (performance.now() < end) setImmediate(step)
            else parentPort.postMessage(refused)
          }
          step()
        })
        parentPort.postMessage('ready')
      \`
      const workers = Array.from({ length: 4 }, () => new Worker(source, {
        eval: true,
        workerData: { entry: ${JSON.stringify(require.resolve('../..'))}, handle: pool.handle }
      }))
      const each = () => Promise.all(workers.map((worker) => {
        return new Promise((resolve) => worker.once('message', resolve))
      }))
      each().then(async () => {
        const before = read('VmRSS')
        for (const worker of workers) worker.postMessage('go')
        const refused = await each()
        console.log(read('VmHWM') - before, refused.every((count) => count > 0))
        process.exit()
      })
    `)
    const [rise, areRefused] = output.trim().split(' ')
    assert.equal(areRefused, 'true', 'each thread was at the ceiling')
    assert.ok(Number(rise) >= 32, `the pool was used: ${rise} MiB`)
    // The rest is JavaScript's: the heaps of four threads.
    assert.ok(Number(rise) <= 64 + 32, `resident memory rose by ${rise} MiB`)
  })
})

describe('idle memory makes room at the ceiling', () => {
  test(
    'at once, where this thread has it',
    inEveryMode(
      async (pool) => {
        releaseAll(pool, fill(pool, 64 * KIB))
        assert.equal(pool.stats().idleBytes, MIB)
        const large = await roomFor(() => pool.allocUnsafe(MIB))
        assert.equal(pool.stats().freshCount, 17)
        assert.equal(pool.stats().freedBytes, MIB)
        pool.release(large)
        releaseAll(pool, await refill(pool, 16 * KIB))
        releaseAll(pool, await refill(pool, 256 * KIB))
        const { freshCount, unpooledCount, idleBytes } = await balanced(pool)
        assert.deepEqual(
          { freshCount, unpooledCount },
          { freshCount: 17 + 64 + 4, unpooledCount: 0 }
        )
        assert.equal(idleBytes, MIB)
      },
      { maxBytes: MIB, onExhausted: 'throw' }
    )
  )

  test(
    'only as far as it must',
    inEveryMode(
      async (pool) => {
        releaseAll(pool, fill(pool, 64 * KIB))
        pool.release(await roomFor(() => pool.allocUnsafe(128 * KIB)))
        const { freedBytes, idleBytes } = await balanced(pool)
        assert.deepEqual({ freedBytes, idleBytes }, { freedBytes: 128 * KIB, idleBytes: MIB })
        pool.release(pool.allocUnsafe(64 * KIB))
        assert.equal(pool.stats().freedBytes, 128 * KIB, 'what is of the right class serves first')
      },
      { maxBytes: MIB, onExhausted: 'throw' }
    )
  )

  test(
    'and not what is leased',
    inEveryMode(
      async (pool) => {
        const held = fill(pool, 64 * KIB).map((buffer, i) => buffer.fill(i))
        releaseAll(pool, held.splice(0, 3))
        assert.throws(() => pool.allocUnsafe(256 * KIB), EXHAUSTED)
        const other = (await roomFor(() => pool.allocUnsafe(192 * KIB))).fill(99)
        held.forEach((buffer, i) => {
          assert.ok(buffer.every((byte) => byte === i + 3))
        })
        assert.ok(other.every((byte) => byte === 99))
        releaseAll(pool, [...held, other])
        await balanced(pool)
      },
      { maxBytes: MIB, onExhausted: 'throw' }
    )
  )

  test('at once, where it is in the depot', { skip: !external }, async () => {
    for (const detachOnRelease of [true, false]) {
      const pool = new BufferPool({ maxBytes: MIB, detachOnRelease, onExhausted: 'throw' })
      for (let i = 0; i < 16; i++) pool.allocUnsafe(64 * KIB)
      // The garbage collector's blocks go to the depot.
      await collectUntil(() => pool.stats().idleBytes === MIB, 'all sixteen are in the depot')
      const { freshCount } = pool.stats()
      const held = [pool.allocUnsafe(512 * KIB), pool.allocUnsafe(64 * KIB)]
      const stats = await balanced(pool)
      assert.equal(stats.freshCount, freshCount + 1, 'the second is one of the sixteen')
      assert.equal(stats.freedBytes, 512 * KIB)
      releaseAll(pool, held)
      releaseAll(pool, await refill(pool, 128 * KIB))
      assert.equal(pool.stats().unpooledCount, 0)
    }
  })

  for (const { mode, options } of MODES.slice(0, 2)) {
    // Otherwise the depot gets the blocks that the other thread has released one turn later.
    const isInMagazine = posts || options.detachOnRelease === false

    test(`a little later, where another thread has it, for a waiter, ${mode}`, async (context) => {
      const pool = new BufferPool({ ...options, maxBytes: MIB, idleTimeout: Infinity })
      const [thread] = await attachThreads(context, pool)
      const idle = await thread.run(({ pool }) => {
        const buffers = Array.from({ length: 16 }, () => pool.allocUnsafe(64 * 1024))
        for (const buffer of buffers) pool.release(buffer)
        return pool.stats().idleBytes
      })
      assert.equal(idle, MIB)
      const buffer = await pool.acquire(MIB)
      const { inUseBytes, idleBytes, freedBytes, waitCount } = await balanced(pool)
      assert.deepEqual(
        { inUseBytes, idleBytes, freedBytes },
        { inUseBytes: MIB, idleBytes: 0, freedBytes: MIB }
      )
      assert.ok(isInMagazine ? waitCount === 1 : waitCount <= 1, `${waitCount} have waited`)
      pool.release(buffer)
      await balanced(pool)
    })

    test(`a little later, where another thread has it, after a refusal, ${mode}`, async (context) => {
      const settings = { maxBytes: MIB, idleTimeout: Infinity, onExhausted: 'throw' }
      const pool = new BufferPool({ ...options, ...settings })
      const threads = await attachThreads(context, pool, 2)
      for (const thread of threads) {
        await thread.run(({ pool, held }) => {
          const buffers = Array.from({ length: 8 }, () => pool.allocUnsafe(64 * 1024).fill(7))
          held.push(buffers.pop())
          for (const buffer of buffers) pool.release(buffer)
        })
      }
      if (isInMagazine) {
        // There is room for it, but not before the others have heard of it.
        assert.throws(() => pool.allocUnsafe(640 * KIB), EXHAUSTED)
        assert.equal(pool.stats().inUseCount, 2, 'nothing is lost by it')
      }
      let buffer
      await until(() => {
        try {
          buffer = pool.allocUnsafe(640 * KIB).fill(8)
          return true
        } catch {
          return false
        }
      }, 'the other threads have given up what they had idle')
      for (const thread of threads) {
        const isWhole = ({ held }) => held[0].every((byte) => byte === 7)
        assert.ok(await thread.run(isWhole), 'but not what they had leased')
        await thread.run(({ pool, held }) => pool.release(held.pop()))
      }
      pool.release(buffer)
      await balanced(pool)
    })
  }

  test('in a thread that is busy once its event loop turns', async (context) => {
    const pool = new BufferPool({ maxBytes: MIB, idleTimeout: Infinity })
    const [thread] = await attachThreads(context, pool)
    const flag = new Int32Array(new SharedArrayBuffer(8))
    const busy = thread.run(({ pool }, flag) => {
      pool.release(pool.allocUnsafe(1024 * 1024))
      Atomics.store(flag, 0, 1)
      Atomics.wait(flag, 1, 0)
    }, flag)
    await until(() => Atomics.load(flag, 0) === 1, 'the thread has a block idle')
    const promise = pool.acquire(512 * KIB)
    await sleep(20)
    assert.equal(pool.stats().inUseCount, 0, 'it can not give up anything yet')
    Atomics.store(flag, 1, 1)
    Atomics.notify(flag, 1)
    pool.release(await promise)
    await busy
    await balanced(pool)
  })
})

describe('a ceiling smaller than any block', () => {
  for (const maxBytes of [1, 63]) {
    test(
      `of ${maxBytes} bytes has nothing pooled`,
      inEveryMode(
        async (pool, options) => {
          const buffers = [1, 64, 1000, 100 * KIB].map((size) => pool.allocUnsafe(size))
          for (const buffer of buffers) assert.ok(pool.owns(buffer))
          assert.equal(pool.stats().unpooledCount, 4)
          releaseAll(pool, buffers)
          const strict = new BufferPool({ ...options, maxBytes, onExhausted: 'throw' })
          assert.throws(() => strict.allocUnsafe(1), EXHAUSTED)
          assert.equal(strict.allocUnsafe(0).length, 0)
          for (const each of [pool, strict]) {
            await assert.rejects(each.acquire(1), EXHAUSTED)
            assert.equal(each.trim(), 0)
            const { freshBytes, waitCount } = await balanced(each)
            assert.deepEqual({ freshBytes, waitCount }, { freshBytes: 0, waitCount: 0 })
          }
        },
        { maxBytes }
      )
    )
  }

  test('than the block for a size has that size unpooled', async () => {
    // 1000 bytes take a block of 1024.
    const pool = new BufferPool({ maxBytes: 1000 })
    assert.equal(pool.allocUnsafe(1000).length, 1000)
    assert.equal(pool.stats().unpooledCount, 1)
    const buffer = pool.allocUnsafe(896)
    assert.equal(pool.stats().inUseBytes, 896)
    pool.release(buffer)
    await balanced(pool)
  })
})

describe('blocks that return late', () => {
  test('makes room when it is collected', { skip: !external }, async () => {
    const pool = new BufferPool({ maxBytes: MIB, onExhausted: 'throw', leakSampleRate: 0 })
    for (let i = 0; i < 4; i++) pool.allocUnsafe(256 * KIB)
    assert.throws(() => pool.allocUnsafe(100), EXHAUSTED)
    await collectUntil(() => pool.stats().inUseCount === 0, 'all four are back')
    const buffer = pool.allocUnsafe(MIB)
    assert.equal(buffer.length, MIB)
    pool.release(buffer)
    await balanced(pool)
  })

  test('of a thread that has ended makes room, too', {
    skip: external && !endsShow
  }, async (context) => {
    const pool = new BufferPool({ maxBytes: MIB, onExhausted: 'throw', leakSampleRate: 0 })
    const [thread] = await attachThreads(context, pool)
    await thread.run(({ pool, held }) => {
      for (let i = 0; i < 8; i++) held.push(pool.allocUnsafe(128 * 1024).fill(1))
      for (const buffer of held.splice(0, 4)) pool.release(buffer)
    })
    assert.throws(() => pool.allocUnsafe(MIB), EXHAUSTED)
    await thread.terminate()
    let buffer
    await until(() => {
      try {
        buffer = pool.allocUnsafe(MIB)
        return true
      } catch {
        return false
      }
    }, 'all that the thread had is back')
    pool.release(buffer)
    const { quarantinedBytes, inUseCount } = await balanced(pool)
    assert.deepEqual({ quarantinedBytes, inUseCount }, { quarantinedBytes: 0, inUseCount: 0 })
  })
})
