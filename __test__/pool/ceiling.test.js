'use strict'

/**
 * `maxBytes`: that it is never passed, what gives way below it, and what a lease gets that finds no
 * room.
 */

const assert = require('node:assert/strict')
const diagnostics = require('node:diagnostics_channel')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { describe, test } = require('node:test')
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { crew } = require('../support/crew')
const {
  MODES,
  balanced,
  collectUntil,
  eventually,
  endsShow,
  external,
  givesAtOnce,
  inEveryMode,
  isChecked,
  posts,
  roomFor,
  runScript,
  settle,
  until
} = require('../support/helpers')
const { random } = require('../support/torture')

const KIB = 1024
const MIB = 1024 * KIB

const EXHAUSTED = { name: 'RangeError', code: 'ERR_CISTERN_EXHAUSTED' }

/**
 * Leases blocks of one size until the ceiling is reached.
 *
 * @param {BufferPool} pool that has nothing leased
 * @param {number} size a block's
 */
function fill(pool, size) {
  const count = Math.floor(pool.stats().maxBytes / size)
  return Array.from({ length: count }, () => pool.allocUnsafe(size))
}

/**
 * The same where something is idle.
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
 * @param {BufferPool} pool
 * @param {Iterable<Buffer>} buffers
 */
function releaseAll(pool, buffers) {
  for (const buffer of buffers) pool.release(buffer)
}

/**
 * Has what is idle be room for any class, where it does not give way at once.
 *
 * @param {BufferPool} pool
 */
async function clear(pool) {
  if (givesAtOnce) return
  pool.trim()
  await settle()
}

/**
 * What a snapshot says that the pool holds: by what it has, and by what came and went.
 *
 * @param {import('../..').PoolStats} stats
 */
function heldBytes({ inUseBytes, idleBytes, quarantinedBytes, freshBytes, freedBytes }) {
  return [inUseBytes + idleBytes + quarantinedBytes, freshBytes - freedBytes]
}

/** The messages of `cistern:exhausted` that are published while something runs. */
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

/** The limits of this process's control groups and their parents, in bytes. */
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
    // 0 or undefined where the runtime can't tell; more than the machine has where there is none.
    if (process.constrainedMemory?.() > 0) limits.push(process.constrainedMemory())
    const { maxBytes } = new BufferPool().stats()
    assert.equal(maxBytes, Math.floor(Math.min(...limits) / 4))
  })

  test('is told by stats, in all threads', async (context) => {
    const pool = new BufferPool({ maxBytes: 12_345 })
    const [thread] = await crew(context, pool)
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

  test('tells what can never have room from what has none now', async () => {
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
            // What is dropped comes back by the garbage collector.
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

  /** What each thread does to the others' pool. */
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
   * Hammers a pool from three threads, and looks at it all the time.
   *
   * @param {import('node:test').TestContext} context
   * @param {object} options
   * @param {number} trims
   * @param {(stats: import('../..').PoolStats, before: import('../..').PoolStats) => void} look
   */
  async function hammered(context, options, trims, look) {
    const pool = new BufferPool({ maxBytes: 2 * MIB, onExhausted: 'throw', ...options })
    const threads = await crew(context, pool, 3)
    let isOver = false
    const ends = threads.map((thread, seed) => {
      return thread.run(hammer, { seed, milliseconds: 1000, largest: 150 * KIB, trims })
    })
    const all = Promise.all(ends).finally(() => {
      isOver = true
    })
    // What it rejects with, is seen below.
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
        // Two in a row that say the same: no block was on its way from one figure to another.
        const held = heldBytes(stats)
        if (String(held) !== String(heldBytes(before))) return
        looks++
        for (const bytes of held) assert.ok(bytes <= stats.maxBytes, `${bytes} bytes`)
      })
      assert.ok(looks > 0, 'pairs of snapshots agreed')
    })
  }

  test('is not passed in any snapshot of the books, while blocks move', async (context) => {
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
    // What is more is JavaScript's: four threads' heaps.
    assert.ok(Number(rise) <= 64 + 32, `resident memory rose by ${rise} MiB`)
  })
})

describe('what is idle gives way at the ceiling', () => {
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
      // What the garbage collector finds goes to the depot.
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
    // Else what the other thread has released is the depot's a turn later.
    const isInMagazine = posts || options.detachOnRelease === false

    test(`a little later, where another thread has it, to who waits, ${mode}`, async (context) => {
      const pool = new BufferPool({ ...options, maxBytes: MIB, idleTimeout: Infinity })
      const [thread] = await crew(context, pool)
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
      const threads = await crew(context, pool, 2)
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
    const [thread] = await crew(context, pool)
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
          // A Buffer, or a Lease: either has a `buffer` that can be released.
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
    const [thread] = await crew(context, pool)
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
    const [thread] = await crew(context, pool)
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

describe('what comes back late', () => {
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
    const [thread] = await crew(context, pool)
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
