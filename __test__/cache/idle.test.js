'use strict'

/**
 * Idle memory: when it goes back to the operating system, and the trimmer thread that gives it
 * back.
 */

const assert = require('node:assert/strict')
const diagnostics = require('node:diagnostics_channel')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { BufferPool } = require('../..')
const { attachThreads } = require('../support/attached-threads')
const {
  MODES,
  balanced,
  collectUntil,
  endsShow,
  external,
  givenBack,
  inEveryMode,
  isChecked,
  moves,
  posts,
  runScript,
  settle,
  until
} = require('../support/helpers')

const KIB = 1024
const MIB = 1024 * KIB

const ENTRY = JSON.stringify(require.resolve('../..'))

/** True if a loop can lease its blocks again in the turn in which it releases them. */
const keepsPace = moves || posts

/**
 * Leases blocks of one size and releases them.
 *
 * @param {BufferPool} pool
 * @param {number} count
 * @param {number} size
 */
function use(pool, count, size) {
  const buffers = Array.from({ length: count }, () => pool.allocUnsafe(size))
  for (const buffer of buffers) pool.release(buffer)
}

/**
 * Returns the messages of `cistern:trim` from now on, for one pool.
 *
 * @param {import('node:test').TestContext} context
 * @param {string} name the pool's
 */
function trims(context, name) {
  /** @type {import('../..').TrimMessage[]} */
  const messages = []
  const listen = (/** @type {any} */ message) => {
    if (message.pool === name) messages.push(message)
  }
  diagnostics.subscribe('cistern:trim', listen)
  context.after(() => {
    diagnostics.unsubscribe('cistern:trim', listen)
  })
  return messages
}

/** @param {import('../..').TrimMessage[]} messages */
const bytesOf = (messages) => messages.reduce((sum, { bytes }) => sum + bytes, 0)

/**
 * Returns true if the pool freed blocks because the machine runs short of memory, which may be too
 * early for the test.
 *
 * @param {import('node:test').TestContext} context
 * @param {import('../..').TrimMessage[]} messages
 */
function isShortOfMemory(context, messages) {
  const isShort = messages.some(({ reason }) => reason === 'pressure')
  if (isShort) context.skip('this machine runs short of memory')
  return isShort
}

describe('surplus', () => {
  test(
    'goes within idleTimeout of being needed last, and not at once',
    inEveryMode(
      async (pool) => {
        const start = performance.now()
        use(pool, 20, 64 * KIB)
        use(pool, 3, 1000)
        await settle()
        const { idleBytes } = pool.stats()
        const isSoon = performance.now() - start < 100
        if (isSoon) assert.equal(idleBytes, 20 * 64 * KIB + 3 * 1024)
        await until(() => pool.stats().idleBytes === 0, 'nothing is idle any more')
        const { freedBytes, freshBytes, inUseBytes } = await balanced(pool)
        assert.equal(freedBytes, freshBytes - inUseBytes)
        // The same works again, after a time with nothing idle.
        use(pool, 5, 64 * KIB)
        await until(() => pool.stats().idleBytes === 0, 'nor the second time')
      },
      { idleTimeout: 300 }
    )
  )

  test('goes from the depot, too', { skip: !external }, async () => {
    for (const { options } of MODES.slice(0, 2)) {
      const pool = new BufferPool({ ...options, idleTimeout: 300, leakSampleRate: 0 })
      for (let i = 0; i < 20; i++) pool.allocUnsafe(64 * KIB)
      // The garbage collector's blocks go to the depot.
      await collectUntil(() => pool.stats().collectedCount === 20, 'all are back')
      await until(() => pool.stats().idleBytes === 0, 'nothing is idle any more')
      await balanced(pool)
    }
  })

  test('goes where it was fetched in a batch and never leased', { skip: !external }, async () => {
    const pool = new BufferPool({ idleTimeout: 3000, leakSampleRate: 0 })
    for (let i = 0; i < 8; i++) pool.allocUnsafe(16 * KIB)
    await collectUntil(() => pool.stats().idleCount === 8, 'all eight are in the depot')
    const held = pool.allocUnsafe(16 * KIB)
    await until(() => pool.stats().idleCount === 0, 'only what is leased is left')
    assert.equal(pool.stats().inUseCount, 1)
    pool.release(held)
  })

  test('goes in a thread that does nothing', async (context) => {
    const pool = new BufferPool({ idleTimeout: 300 })
    const [thread] = await attachThreads(context, pool)
    const idle = await thread.run(({ pool }) => {
      const buffers = Array.from({ length: 20 }, () => pool.allocUnsafe(64 * 1024))
      for (const buffer of buffers) pool.release(buffer)
      return pool.stats().idleBytes
    })
    assert.equal(idle, 20 * 64 * KIB)
    await until(() => pool.stats().idleBytes === 0, 'nothing is idle any more')
    const { freedBytes } = await balanced(pool)
    assert.equal(freedBytes, 20 * 64 * KIB)
  })

  test('goes that a thread had which was terminated', {
    skip: external && !endsShow
  }, async (context) => {
    for (const { options } of MODES.slice(0, 2)) {
      const pool = new BufferPool({ ...options, idleTimeout: 300, leakSampleRate: 0 })
      const [thread] = await attachThreads(context, pool)
      await thread.run(({ pool, held }) => {
        const buffers = Array.from({ length: 20 }, () => pool.allocUnsafe(64 * 1024))
        for (const buffer of buffers) pool.release(buffer)
        held.push(pool.allocUnsafe(80 * 1024))
      })
      await thread.terminate()
      await until(() => {
        const { inUseBytes, idleBytes, quarantinedBytes } = pool.stats()
        return inUseBytes + idleBytes + quarantinedBytes === 0
      }, 'nothing is left')
      const { freedBytes } = await balanced(pool)
      assert.equal(freedBytes, (20 * 64 + 80) * KIB)
    }
  })

  test('goes, and what is in steady use stays', async (context) => {
    const name = 'steady'
    const messages = trims(context, name)
    const settings = { name, idleTimeout: 1000 }
    const cases = [
      { pool: new BufferPool(settings), count: 20, size: 64 * KIB },
      { pool: new BufferPool({ ...settings, detachOnRelease: false }), count: 20, size: 64 * KIB }
    ]
    if (external && keepsPace) {
      // This is more than a magazine stores: half of it goes to the depot and back in each round.
      cases.push({ pool: new BufferPool(settings), count: 400, size: 16 * KIB })
    }
    // Seven intervals pass, and none without use, if this machine is fast enough.
    let before
    let longest = Infinity
    for (let attempt = 0; attempt < 3 && longest > 400; attempt++) {
      for (const { pool, count, size } of cases) use(pool, 3 * count, size)
      await givenBack()
      before = cases.map(({ pool }) => pool.stats().freshCount)
      longest = await useSteadily(cases, 3500)
    }
    if (longest > 400) {
      context.skip(`this machine was busy with something else for ${longest} ms`)
      return
    }
    if (isShortOfMemory(context, messages)) return
    for (const [i, { pool, count, size }] of cases.entries()) {
      const { freshCount, idleBytes } = pool.stats()
      assert.equal(freshCount, before[i], 'no block had to be got again')
      assert.ok(idleBytes >= count * size, `${idleBytes} bytes are idle`)
      assert.ok(idleBytes <= (count + 8) * size, `${idleBytes} bytes are idle: surplus as well`)
    }
    assert.ok(messages.length > 0)
  })

  /** Uses pools every few milliseconds. Returns the longest time between two rounds. */
  async function useSteadily(cases, milliseconds) {
    let longest = 0
    let last = performance.now()
    for (const end = last + milliseconds; last < end; ) {
      for (const { pool, count, size } of cases) use(pool, count, size)
      await sleep(5)
      const now = performance.now()
      longest = Math.max(longest, now - last)
      last = now
    }
    return longest
  }
})

describe('idleTimeout: 0', () => {
  test(
    'leaves nothing idle after the turn',
    inEveryMode(
      async (pool) => {
        use(pool, 20, 64 * KIB)
        assert.ok(pool.stats().idleBytes > 0 || !keepsPace)
        use(pool, 20, 64 * KIB)
        if (keepsPace) assert.equal(pool.stats().freshCount, 20, 'but serves within it')
        await settle()
        let stats = pool.stats()
        assert.equal(stats.idleBytes, 0)
        assert.equal(stats.freedBytes, stats.freshBytes)
        // The same holds in every turn, with other blocks leased all the time.
        const held = pool.allocUnsafe(1000)
        for (let i = 0; i < 10; i++) {
          pool.release(await pool.acquire(100 * KIB))
          await settle()
          assert.equal(pool.stats().idleBytes, 0)
        }
        pool.release(held)
        stats = await balanced(pool)
        assert.equal(stats.idleBytes, 0)
      },
      { idleTimeout: 0 }
    )
  )

  test('leaves nothing idle in the depot, either', async (context) => {
    const pool = new BufferPool({ idleTimeout: 0, leakSampleRate: 0 })
    for (let i = 0; i < 20; i++) pool.allocUnsafe(64 * KIB)
    await collectUntil(() => pool.stats().inUseCount === 0, 'all are back')
    let stats = await balanced(pool)
    assert.equal(stats.idleBytes, 0)
    assert.equal(stats.freedBytes, 20 * 64 * KIB)
    const [thread] = await attachThreads(context, pool)
    await thread.run(({ pool }) => {
      const buffers = Array.from({ length: 600 }, () => pool.allocUnsafe(4096))
      for (const buffer of buffers) pool.release(buffer)
    })
    await until(() => pool.stats().idleBytes === 0, 'the other thread keeps nothing')
    await thread.terminate()
    stats = await balanced(pool)
    assert.deepEqual([stats.idleBytes, stats.inUseBytes], [0, 0])
  })
})

describe('idleTimeout: Infinity', () => {
  test('leaves all idle, until trim is called', async (context) => {
    const name = 'forever'
    const messages = trims(context, name)
    const pool = new BufferPool({ name, idleTimeout: Infinity, leakSampleRate: 0 })
    use(pool, 20, MIB)
    for (let i = 0; i < 20; i++) pool.allocUnsafe(64 * KIB)
    await collectUntil(() => pool.stats().inUseCount === 0, 'the dropped ones are back')
    const { idleBytes } = await balanced(pool)
    assert.equal(idleBytes, 20 * MIB + (external ? 20 * 64 * KIB : 0))
    const freedBefore = pool.stats().freedBytes
    await sleep(1500)
    if (isShortOfMemory(context, messages)) return
    assert.equal(pool.stats().idleBytes, idleBytes)
    assert.equal(pool.stats().freedBytes, freedBefore)
    assert.deepEqual(messages, [])
    assert.equal(pool.trim(), idleBytes)
    assert.deepEqual(messages, [{ pool: name, bytes: idleBytes, reason: 'call' }])
    await balanced(pool)
  })
})

describe('cistern:trim', () => {
  for (const { mode, options } of MODES.slice(0, 2)) {
    test(`reports all freed memory, by time and by call, ${mode}`, async (context) => {
      const name = `told, ${mode}`
      const messages = trims(context, name)
      const pool = new BufferPool({ ...options, name, idleTimeout: 600, leakSampleRate: 0 })
      const isAllTold = () => bytesOf(messages) === pool.stats().freedBytes
      for (let round = 0; round < 2; round++) {
        use(pool, 10, MIB)
        use(pool, 10, 1000 + round * 5000)
        if (round === 0) {
          await givenBack()
          const freed = pool.trim(MIB)
          assert.ok(freed > 0)
          assert.deepEqual(messages.at(-1), { pool: name, bytes: freed, reason: 'call' })
        }
        if (external) {
          for (let i = 0; i < 10; i++) pool.allocUnsafe(64 * KIB)
          await collectUntil(() => pool.stats().inUseCount === 0, 'the dropped ones are back')
        }
        await until(() => pool.stats().idleBytes === 0, 'nothing is idle any more')
        await until(isAllTold, 'all freed memory was reported')
      }
      for (const message of messages) {
        assert.deepEqual(Object.keys(message).sort(), ['bytes', 'pool', 'reason'])
        assert.ok(message.bytes > 0)
      }
      const reasons = new Set(messages.map(({ reason }) => reason))
      assert.ok(reasons.has('call'))
      if (!reasons.has('pressure')) assert.ok(reasons.has('idle'))
      await balanced(pool)
    })
  }

  test('is published in the thread whose memory went', async (context) => {
    const name = 'here and there'
    const messages = trims(context, name)
    const pool = new BufferPool({ name, idleTimeout: 200 })
    const [thread] = await attachThreads(context, pool)
    await thread.run(({ pool, held }) => {
      require('node:diagnostics_channel').subscribe('cistern:trim', (message) => held.push(message))
      const buffers = Array.from({ length: 10 }, () => pool.allocUnsafe(64 * 1024))
      for (const buffer of buffers) pool.release(buffer)
    })
    use(pool, 10, MIB)
    await until(() => pool.stats().idleBytes === 0, 'nothing is idle any more')
    await until(async () => {
      const there = await thread.run(({ held }) => held)
      return bytesOf(messages) + bytesOf(there) === pool.stats().freedBytes
    }, 'all freed memory was reported, in one thread or the other')
    const there = await thread.run(({ held }) => held)
    // Otherwise released blocks belong to the depot, and one thread is enough to report that.
    if (keepsPace) assert.ok(bytesOf(there) > 0 && bytesOf(messages) > 0)
  })

  test('says nothing where nothing went', async (context) => {
    const name = 'silent'
    const messages = trims(context, name)
    const pool = new BufferPool({ name, idleTimeout: Infinity })
    assert.equal(pool.trim(), 0)
    use(pool, 1, MIB)
    assert.equal(pool.trim(MIB), 0)
    await settle()
    if (isShortOfMemory(context, messages)) return
    assert.deepEqual(messages, [])
  })
})

describe('trim', () => {
  for (const { mode, options } of MODES.slice(0, 2)) {
    test(`reaches what other threads have idle, a turn later, ${mode}`, async (context) => {
      const pool = new BufferPool({ ...options, idleTimeout: Infinity })
      const threads = await attachThreads(context, pool, 2)
      for (const thread of threads) {
        await thread.run(({ pool, held, settle }) => {
          const buffers = Array.from({ length: 8 }, () => pool.allocUnsafe(1024 * 1024).fill(9))
          held.push(buffers.pop())
          for (const buffer of buffers) pool.release(buffer)
          return settle()
        })
      }
      use(pool, 3, MIB)
      // Blocks of the depot are any thread's: they have served the second thread, and this one.
      const isInDepot = !keepsPace && options.detachOnRelease !== false
      const [idle, here] = isInDepot ? [7 * MIB, 7 * MIB] : [17 * MIB, 3 * MIB]
      assert.equal(pool.stats().idleBytes, idle)
      assert.equal(pool.trim(), here, 'what this thread has goes now')
      await until(() => pool.stats().idleBytes === 0, 'what the others have follows')
      const { freedBytes, inUseBytes } = await balanced(pool)
      assert.deepEqual([freedBytes, inUseBytes], [idle, 2 * MIB])
      for (const thread of threads) {
        const isWhole = ({ held }) => held[0].every((byte) => byte === 9)
        assert.ok(await thread.run(isWhole), 'what is leased stays')
      }
    })
  }

  test('leaves another thread as much idle as it is asked to', async (context) => {
    const pool = new BufferPool({ idleTimeout: Infinity })
    const [thread] = await attachThreads(context, pool)
    await thread.run(({ pool }) => {
      const buffers = Array.from({ length: 8 }, () => pool.allocUnsafe(1024 * 1024))
      for (const buffer of buffers) pool.release(buffer)
    })
    assert.equal(pool.trim(5 * MIB), keepsPace ? 0 : 3 * MIB, 'of what is in the depot')
    await until(() => pool.stats().idleBytes < 8 * MIB, 'the other has heard of it')
    await thread.run(({ settle }) => settle())
    const { idleBytes, freedBytes } = await balanced(pool)
    assert.deepEqual([idleBytes, freedBytes], [5 * MIB, 3 * MIB])
  })
})

/** Parts of scripts that look at their own process. */
const PRELUDE = `
  const { readFileSync, readdirSync } = require('node:fs')
  const { Worker } = require('node:worker_threads')
  const KIB = 1024
  const MIB = 1024 * KIB
  const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))
  const use = (pool, count, size) => {
    const buffers = Array.from({ length: count }, () => pool.allocUnsafe(size).fill(1))
    for (const buffer of buffers) pool.release(buffer)
  }
  const startWorker = (handle, script) => new Worker(\`
    const { parentPort, workerData: { entry, handle } } = require('node:worker_threads')
    const cistern = require(entry)
    const pool = handle ? cistern.BufferPool.attach(handle) : new cistern.BufferPool()
    const use = \${use}
    \${script}
  \`, { eval: true, workerData: { entry: ${ENTRY}, handle } })
  const hasTrimmer = () => readdirSync('/proc/self/task').some((task) => {
    try {
      return readFileSync('/proc/self/task/' + task + '/comm', 'utf8').trim() === 'cistern-trimmer'
    } catch {
      return false // The thread has ended meanwhile.
    }
  })
  const until = async (condition) => {
    const deadline = performance.now() + 60_000
    while (!condition() && performance.now() < deadline) await sleep(10)
    return condition()
  }
`

describe('resident memory', { skip: isChecked }, () => {
  for (const [name, size] of [
    ['1 MiB', MIB],
    ['64 KiB', 64 * KIB],
    ['16 KiB', 16 * KIB]
  ]) {
    test(`of 200 MiB in blocks of ${name} falls back in time`, { skip: !external }, () => {
      const output = runScript(`
        ${PRELUDE}
        ;(async () => {
          const pool = new cistern.BufferPool({ idleTimeout: 500 })
          use(pool, 100, ${size})
          pool.trim()
          await sleep(20)
          globalThis.gc()
          const rss = () => process.memoryUsage.rss() / MIB
          const before = rss()
          let full
          ;(() => {
            const buffers = Array.from({ length: ${(200 * MIB) / size} }, () => {
              return pool.allocUnsafe(${size}).fill(1)
            })
            full = rss()
            for (const buffer of buffers) pool.release(buffer)
          })()
          const isFreed = await until(() => {
            const { idleBytes, freshBytes, freedBytes } = pool.stats()
            return idleBytes === 0 && freshBytes === freedBytes
          })
          // The Buffers were objects on JavaScript's heap.
          globalThis.gc()
          await until(() => rss() - before <= 0.15 * (full - before))
          console.log(full - before, rss() - before, isFreed)
        })()
      `)
      const [rise, left, isFreed] = output.trim().split(' ')
      assert.ok(Number(rise) >= 190, `200 MiB raised it by ${rise} MiB`)
      assert.ok(Number(left) <= 0.15 * Number(rise), `of ${rise} MiB, ${left} are left`)
      assert.equal(isFreed, 'true')
    })
  }

  test('of several threads falls back in time', { skip: !external }, () => {
    const output = runScript(`
      ${PRELUDE}
      ;(async () => {
        const pool = new cistern.BufferPool({ idleTimeout: 500 })
        const workers = Array.from({ length: 3 }, () => startWorker(pool.handle, \`
          parentPort.on('message', () => {
            use(pool, 50, 1024 * 1024)
            parentPort.postMessage(process.memoryUsage.rss())
          })
          parentPort.postMessage('ready')
        \`))
        const each = () => Promise.all(workers.map((worker) => {
          return new Promise((resolve) => worker.once('message', resolve))
        }))
        await each()
        const before = process.memoryUsage.rss()
        for (const worker of workers) worker.postMessage('go')
        await each()
        const { freshBytes } = pool.stats()
        // One of them ends, with its idle blocks.
        await workers[0].terminate()
        const isFreed = await until(() => pool.stats().idleBytes === 0)
        const left = () => (process.memoryUsage.rss() - before) / MIB
        await until(() => left() <= 0.15 * 150)
        console.log(freshBytes / MIB, left(), isFreed)
        process.exit()
      })()
    `)
    const [fresh, left, isFreed] = output.trim().split(' ')
    assert.ok(Number(fresh) >= 50, `${fresh} MiB were used`)
    assert.ok(Number(left) <= 0.15 * 150, `${left} MiB are left`)
    assert.equal(isFreed, 'true')
  })
})

describe('the process', () => {
  for (const idleTimeout of [0, 1, 60_000, Infinity]) {
    test(`ends by itself while memory is idle, with idleTimeout ${idleTimeout}`, () => {
      const start = performance.now()
      const output = runScript(`
        ${PRELUDE}
        const pool = new cistern.BufferPool({ idleTimeout: ${idleTimeout} })
        use(pool, 20, MIB)
        use(pool, 600, 16 * KIB)
        setTimeout(() => use(pool, 20, MIB), 20)
        process.on('exit', (code) => console.log('exit', code))
      `)
      assert.equal(output.trim(), 'exit 0')
      const elapsed = performance.now() - start
      assert.ok(elapsed < 30_000, `after ${elapsed} ms`)
    })

    test(`has its workers end by themselves, with idleTimeout ${idleTimeout}`, () => {
      const start = performance.now()
      const output = runScript(`
        ${PRELUDE}
        const pool = new cistern.BufferPool({ idleTimeout: ${idleTimeout} })
        for (const handle of [pool.handle, undefined]) {
          const worker = startWorker(handle, \`
            use(pool, 20, 1024 * 1024)
            use(pool, 600, 16 * 1024)
            setTimeout(() => use(pool, 20, 1024 * 1024), 20)
          \`)
          worker.on('exit', (code) => console.log('exit', code))
        }
      `)
      assert.equal(output.trim(), 'exit 0\nexit 0')
      const elapsed = performance.now() - start
      assert.ok(elapsed < 30_000, `after ${elapsed} ms`)
    })
  }
})

describe('the trimmer', { skip: process.platform !== 'linux' }, () => {
  test('is there while something is idle, and only then', () => {
    const output = runScript(`
      ${PRELUDE}
      ;(async () => {
        // Long enough for a late look to see it.
        let pool = new cistern.BufferPool({ idleTimeout: 3000 })
        console.log('at first', hasTrimmer())
        let held = pool.allocUnsafe(MIB)
        await sleep(50)
        console.log('leased', hasTrimmer())
        pool.release(held)
        console.log('idle', await until(hasTrimmer))
        console.log('gone', await until(() => !hasTrimmer()), pool.stats().idleBytes)
        await sleep(700)
        console.log('and stays away', !hasTrimmer())

        use(pool, 3, MIB)
        console.log('idle again', await until(hasTrimmer))
        pool.trim()
        console.log('gone after trim', await until(() => !hasTrimmer()))

        use(pool, 3, MIB)
        await until(hasTrimmer)
        pool.close()
        console.log('gone after close', await until(() => !hasTrimmer()))

        pool = new cistern.BufferPool({ idleTimeout: 60_000 })
        use(pool, 3, MIB)
        await until(hasTrimmer)
        pool = undefined
        held = undefined
        console.log('gone with the pool', await until(() => {
          globalThis.gc()
          return !hasTrimmer()
        }))
      })()
    `)
    assert.deepEqual(output.trim().split('\n'), [
      'at first false',
      'leased false',
      'idle true',
      'gone true 0',
      'and stays away true',
      'idle again true',
      'gone after trim true',
      'gone after close true',
      'gone with the pool true'
    ])
  })

  test('goes when nothing is idle, with no timeout at all', () => {
    const output = runScript(`
      ${PRELUDE}
      ;(async () => {
        const pool = new cistern.BufferPool({ idleTimeout: Infinity })
        use(pool, 3, MIB)
        console.log(await until(hasTrimmer))
        pool.trim()
        console.log(await until(() => !hasTrimmer()))
      })()
    `)
    assert.equal(output.trim(), 'true\ntrue')
  })

  test('looks after what a terminated thread had, and goes', () => {
    const output = runScript(`
      ${PRELUDE}
      ;(async () => {
        for (const detachOnRelease of [true, false]) {
          // Long enough for a late look to see the trimmer.
          const pool = new cistern.BufferPool({ idleTimeout: 3000, detachOnRelease })
          const worker = startWorker(pool.handle, \`
            use(pool, 8, 1024 * 1024)
            globalThis.leased = pool.allocUnsafe(1024 * 1024)
            setTimeout(() => parentPort.postMessage('idle'), 20)
            setInterval(() => {}, 1000)
          \`)
          await new Promise((resolve) => worker.once('message', resolve))
          console.log('there', await until(hasTrimmer))
          await worker.terminate()
          // Nobody asks the pool for anything meanwhile.
          console.log('gone', await until(() => !hasTrimmer()))
          const { idleBytes, inUseBytes, quarantinedBytes } = pool.stats()
          console.log(idleBytes, inUseBytes, quarantinedBytes)
        }
      })()
    `)
    // Without a witness the pool never reuses the blocks that the thread had leased, and those that
    // stale views may reach. The trimmer ends nevertheless.
    const [one, all] = endsShow || !external ? [0, 0] : [MIB, 8 * MIB]
    const lines = (/** @type {number} */ bytes) => ['there true', 'gone true', `0 0 ${bytes}`]
    assert.deepEqual(output.trim().split('\n'), [...lines(one), ...lines(all)])
  })
})
