'use strict'

/**
 * Leases that are dropped: which of them `cistern:leak` reports.
 *
 * With every lease sampled, each lease that the collector ends is reported once, with its call
 * site. No lease that was released is reported. Sampling changes nothing else for anyone.
 */

const assert = require('node:assert/strict')
const path = require('node:path')
const { after, describe, test } = require('node:test')
const { BufferPool } = require('../..')
const { Sampler } = require('../../lib/cache/sampler')
const {
  balanced,
  eventually,
  external,
  inEveryMode,
  moves,
  posts,
  runScript,
  settle
} = require('../support/helpers')
const { Thread } = require('../support/thread')
const { BLOCK_SIZE, LIB, SIZE, collected, tellsOfOne, told } = require('../support/leaks')

/** Frames that a call site has at most. */
const FRAMES = 8

/** @type {Set<Thread>} */
const threads = new Set()

/** @param {BufferPool} pool */
function startThread(pool) {
  const thread = new Thread(pool.handle)
  threads.add(thread)
  return thread
}

after(() => Promise.all([...threads].map((thread) => thread.terminate())))

/** The ways to lease, each by a function with a name of its own. */
const CALLS = {
  allocUnsafe: function leaksByAllocUnsafe(pool) {
    pool.allocUnsafe(SIZE)
  },
  alloc: function leaksByAlloc(pool) {
    pool.alloc(SIZE)
  },
  'alloc with a fill': function leaksByFill(pool) {
    pool.alloc(SIZE, 'fill')
  },
  lease: function leaksByLease(pool) {
    pool.lease(SIZE)
  },
  'lease with zeros': function leaksByZeroedLease(pool) {
    pool.lease(SIZE, { zero: true })
  },
  acquire: async function leaksByAcquire(pool) {
    await pool.acquire(SIZE)
  },
  'acquire with zeros': async function leaksByZeroedAcquire(pool) {
    await pool.acquire(SIZE, { zero: true })
  },
  'acquire, after it has waited': async function leaksByWaiting(pool) {
    await pool.acquire(SIZE)
  }
}

/** The ways to release a Buffer. */
const RELEASES = {
  'the Buffer': (pool, buffer) => pool.release(buffer),
  'a subarray': (pool, buffer) => pool.release(buffer.subarray(10, 20)),
  'an empty subarray': (pool, buffer) => pool.release(buffer.subarray(5, 5)),
  'a DataView': (pool, buffer) => pool.release(new DataView(buffer.buffer)),
  'a Float64Array': (pool, buffer) => pool.release(new Float64Array(buffer.buffer, 8, 2)),
  'the ArrayBuffer': (pool, buffer) => pool.release(buffer.buffer)
}

describe('a leaked lease', () => {
  for (const [name, leak] of Object.entries(CALLS)) {
    const waits = name.includes('waited')
    const settings = { name, leakSampleRate: 1, maxBytes: waits ? BLOCK_SIZE : 2 ** 24 }

    test(
      `by ${name} is told, with its call site, and its block comes back`,
      inEveryMode(async (pool) => {
        for (let turn = 1; turn <= 3; turn++) {
          await settle()
          const inTheWay = waits ? pool.lease(SIZE) : undefined
          const done = leak(pool)
          inTheWay?.release()
          await done
          await collected(pool, turn)
          await eventually(() => told.length >= turn, 'it is told')
        }
        assert.equal(pool.stats().waitCount, waits ? 3 : 0)
        assert.equal(told.length, 3)
        for (const [i, message] of told.splice(0).entries()) {
          assert.deepEqual(Object.keys(message).sort(), ['count', 'pool', 'size', 'stack'])
          assert.equal(message.pool, name)
          assert.equal(message.size, SIZE)
          assert.equal(message.count, i + 1)
          const lines = message.stack.split('\n')
          assert.match(
            lines[0],
            new RegExp(`^ +at .*${leak.name} \\(.*leak\\.test\\.js:\\d+:\\d+\\)$`)
          )
          assert.ok(lines.length <= FRAMES)
          assert.ok(!message.stack.includes(LIB), message.stack)
        }
        const { inUseCount, idleCount, freedBytes } = await balanced(pool)
        assert.equal(inUseCount, 0)
        if (external) assert.equal(idleCount, 1)
        else assert.ok(freedBytes >= 3 * BLOCK_SIZE)
        if (external) {
          pool.release(pool.allocUnsafe(SIZE))
          assert.equal(pool.stats().freshCount, 1, 'it is used again')
        }
      }, settings)
    )
  }

  test(
    'is counted by its call site',
    inEveryMode(
      async (pool) => {
        function firstSite() {
          pool.allocUnsafe(SIZE)
        }
        function secondSite() {
          pool.allocUnsafe(2 * SIZE)
        }
        for (let i = 0; i < 10; i++) {
          firstSite()
          if (i % 3 === 0) secondSite()
        }
        await collected(pool, 14)
        await eventually(() => told.length >= 14, 'all are told')
        for (const [name, size, count] of [
          ['firstSite', SIZE, 10],
          ['secondSite', 2 * SIZE, 4]
        ]) {
          const messages = told.filter(({ stack }) => stack.includes(name))
          assert.ok(messages.every((message) => message.size === size))
          const counts = messages.map(({ count }) => count).sort((a, b) => a - b)
          const expected = Array.from({ length: count }, (_, i) => i + 1)
          assert.deepEqual(counts, expected)
        }
        assert.equal(told.splice(0).length, 14)
      },
      { leakSampleRate: 1 }
    )
  )

  test(
    'is told however many there are at once',
    inEveryMode(
      async (pool) => {
        for (let i = 0; i < 3000; i++) pool.allocUnsafe(SIZE)
        await collected(pool, 3000)
        await eventually(() => told.length >= 3000, 'all are told')
        assert.equal(told.splice(0).length, 3000)
      },
      { leakSampleRate: 1 }
    )
  )

  test(
    'is told of its latest lease, and of that alone',
    inEveryMode(
      async (pool) => {
        function earlier() {
          for (let i = 0; i < 100; i++) pool.release(pool.allocUnsafe(SIZE))
        }
        function latest() {
          pool.allocUnsafe(SIZE)
        }
        earlier()
        latest()
        await collected(pool, 1)
        await eventually(() => told.length >= 1, 'it is told')
        const [{ stack, count }, ...more] = told.splice(0)
        assert.match(stack, /latest/)
        assert.doesNotMatch(stack, /earlier/)
        assert.equal(count, 1)
        assert.deepEqual(more, [])
      },
      { leakSampleRate: 1 }
    )
  )

  test(
    'of a closed pool is told, too',
    inEveryMode(
      async (pool) => {
        ;(function leakAndClose() {
          pool.allocUnsafe(SIZE)
          pool.close()
        })()
        await collected(pool, 1)
        await eventually(() => told.length >= 1, 'it is told')
        assert.match(told.splice(0)[0].stack, /leakAndClose/)
      },
      { leakSampleRate: 1 }
    )
  )

  test('is reported although stale views of its block are still there', async () => {
    const pool = new BufferPool({ leakSampleRate: 1 })
    const start = () => {
      const stale = pool.allocUnsafe(SIZE)
      pool.release(stale)
      pool.allocUnsafe(SIZE)
      return stale
    }
    const stale = start()
    await eventually(() => told.length >= 1, 'it is told')
    for (let i = 0; i < 10; i++) {
      globalThis.gc()
      await settle()
    }
    assert.equal(told.length, 1)
    assert.equal(stale.length, 0)
  })

  test('that waited is reported with its own call site, whichever thread made room for it', async () => {
    const pool = new BufferPool({ leakSampleRate: 0.5, maxBytes: BLOCK_SIZE })
    for (let i = 1; i <= 40; i++) {
      const inTheWay = pool.lease(SIZE)
      const waiting = CALLS['acquire, after it has waited'](pool)
      ;(function makesRoom() {
        inTheWay.release()
      })()
      await waiting
      await collected(pool, i)
    }
    assert.ok(told.length > 0)
    for (const { stack } of told) {
      assert.match(stack, /leaksByWaiting/)
      assert.doesNotMatch(stack, /makesRoom/)
    }
  })

  test('of a worker is reported in that worker', async () => {
    const pool = new BufferPool({ name: 'far', leakSampleRate: 1 })
    const thread = startThread(pool)
    await thread.run((self) => {
      self.told = []
      const { subscribe } = self.require('node:diagnostics_channel')
      subscribe('cistern:leak', (message) => self.told.push(message))
      function farAway() {
        self.pool.allocUnsafe(1000)
      }
      for (let i = 0; i < 5; i++) farAway()
    })
    await eventually(() => pool.stats().collectedCount === 5, 'all are collected', [thread])
    await thread.collect()
    const messages = await thread.run(({ told }) => told)
    assert.equal(messages.length, 5)
    for (const { pool, size, stack } of messages) {
      assert.deepEqual([pool, size], ['far', 1000])
      assert.match(stack, /farAway/)
      assert.ok(!stack.includes(LIB))
    }
    assert.deepEqual(told, [])
    await thread.terminate()
  })

  test('that was posted and dropped there is reported where it was leased', {
    skip: !posts
  }, async () => {
    const pool = new BufferPool({ leakSampleRate: 1 })
    const thread = startThread(pool)
    const post = () => {
      const buffer = (function leasedHere() {
        return pool.allocUnsafe(SIZE)
      })()
      return thread.run(() => {}, buffer, [buffer.buffer])
    }
    await post()
    await eventually(() => pool.stats().collectedCount === 1, 'it is collected', [thread])
    await eventually(() => told.length >= 1, 'it is told')
    assert.equal(told.length, 1)
    assert.match(told[0].stack, /leasedHere/)
    await thread.terminate()
  })
})

describe('a lease that was released is never reported', () => {
  for (const [name, release] of Object.entries(RELEASES)) {
    test(
      `by ${name}`,
      inEveryMode(
        async (pool) => {
          ;(() => {
            for (let i = 0; i < 20; i++) release(pool, pool.allocUnsafe(SIZE))
            const buffers = Array.from({ length: 20 }, () => pool.allocUnsafe(SIZE))
            for (const buffer of buffers) release(pool, buffer)
          })()
          await tellsOfOne(pool)
          assert.deepEqual(told, [])
          assert.equal(pool.stats().releaseCount, 40)
        },
        { leakSampleRate: 1 }
      )
    )
  }

  test(
    'by its Lease',
    inEveryMode(
      async (pool) => {
        ;(() => {
          for (let i = 0; i < 20; i++) {
            pool.lease(SIZE).release()
            pool.lease(SIZE)[Symbol.dispose]()
            const lease = pool.lease(SIZE)
            pool.release(lease.buffer)
            lease.release()
          }
        })()
        await tellsOfOne(pool)
        assert.deepEqual(told, [])
        assert.equal(pool.stats().releaseCount, 60)
      },
      { leakSampleRate: 1 }
    )
  )

  test(
    'after acquire, at once or in its turn',
    inEveryMode(
      async (pool) => {
        const release = (buffer) => pool.release(buffer)
        // A function of its own: then no frame that lives on has the value that it awaited.
        const acquireTwo = async () => {
          const inTheWay = pool.acquire(SIZE)
          const waiting = pool.acquire(SIZE)
          await Promise.all([inTheWay.then(release), waiting.then(release)])
          await settle()
        }
        for (let i = 0; i < 20; i++) await acquireTwo()
        assert.equal(pool.stats().waitCount, 20)
        await tellsOfOne(pool)
        assert.deepEqual(told, [])
        assert.equal(pool.stats().releaseCount, 40)
      },
      { leakSampleRate: 1, maxBytes: BLOCK_SIZE }
    )
  )

  test(
    'by the ArrayBuffer that it was transferred to',
    { skip: !moves || !external },
    inEveryMode(
      async (pool) => {
        ;(() => {
          for (let i = 0; i < 20; i++) pool.release(pool.allocUnsafe(SIZE).buffer.transfer())
        })()
        await tellsOfOne(pool)
        assert.deepEqual(told, [])
        assert.equal(pool.stats().releaseCount, 20)
      },
      { leakSampleRate: 1 }
    )
  )

  test(
    'in another thread, where it was posted to',
    { skip: !posts || !external },
    inEveryMode(
      async (pool) => {
        const thread = startThread(pool)
        const post = () => {
          const buffer = pool.allocUnsafe(SIZE)
          const release = ({ pool }, posted) => pool.release(posted)
          return thread.run(release, buffer, [buffer.buffer])
        }
        for (let i = 0; i < 20; i++) await post()
        await thread.collect()
        await tellsOfOne(pool)
        assert.deepEqual(told, [])
        assert.equal(pool.stats().releaseCount, 20)
        await thread.terminate()
      },
      { leakSampleRate: 1 }
    )
  )

  test(
    'and neither is one that is still in use',
    inEveryMode(
      async (pool) => {
        const buffers = Array.from({ length: 20 }, () => pool.allocUnsafe(SIZE).subarray(1, 2))
        await tellsOfOne(pool)
        assert.equal(pool.stats().inUseCount, 20)
        ;(() => {
          for (const buffer of buffers.splice(0)) pool.release(buffer)
        })()
        await tellsOfOne(pool)
        assert.deepEqual(told, [])
      },
      { leakSampleRate: 1 }
    )
  )
})

describe('leakSampleRate', () => {
  for (const detachOnRelease of [true, false]) {
    test(`of 0 reports none, detachOnRelease: ${detachOnRelease}`, async () => {
      const pool = new BufferPool({ leakSampleRate: 0, detachOnRelease })
      for (const leak of Object.values(CALLS)) for (let i = 0; i < 50; i++) await leak(pool)
      await collected(pool, 50 * Object.keys(CALLS).length)
      await tellsOfOne(new BufferPool({ leakSampleRate: 1 }))
      assert.deepEqual(told, [])
    })

    test(`of a quarter reports a quarter, detachOnRelease: ${detachOnRelease}`, async () => {
      const pool = new BufferPool({ leakSampleRate: 0.25, detachOnRelease })
      for (let i = 1; i <= 40; i++) {
        for (let j = 0; j < 100; j++) pool.allocUnsafe(SIZE)
        await collected(pool, 100 * i)
      }
      // A standard deviation is 0.7 %.
      const share = told.length / 4000
      assert.ok(share > 0.2 && share < 0.3, `of 4,000 leaks ${told.length} are told`)
    })

    test(`of a quarter reports a quarter of blocks in use again and again, detachOnRelease: ${detachOnRelease}`, {
      skip: !external
    }, async () => {
      const pool = new BufferPool({ leakSampleRate: 0.25, detachOnRelease })
      for (let i = 1; i <= 40; i++) {
        ;(() => {
          // Long enough for each block to forget when it began.
          for (let turn = 0; turn < 50; turn++) {
            const buffers = Array.from({ length: 50 }, () => pool.allocUnsafe(SIZE))
            for (const buffer of buffers) pool.release(buffer)
          }
          for (let j = 0; j < 50; j++) pool.allocUnsafe(SIZE)
        })()
        await collected(pool, 50 * i)
      }
      const share = told.length / 2000
      assert.ok(share > 0.18 && share < 0.32, `of 2,000 leaks ${told.length} are told`)
    })
  }
})

describe('leakSampleRate, however small,', () => {
  test('has its share of many leases recorded', () => {
    const pool = new BufferPool({ leakSampleRate: 1e-6, detachOnRelease: false })
    const saved = Error.prepareStackTrace
    let samples = 0
    Error.prepareStackTrace = (_error, frames) => {
      samples++
      return frames.join('\n')
    }
    try {
      for (let i = 0; i < 30e6; i++) pool.release(pool.allocUnsafe(SIZE))
    } finally {
      Error.prepareStackTrace = saved
    }
    // 30 are expected, with a standard deviation of 5.5.
    assert.ok(samples >= 5 && samples <= 70, `of 30 million leases ${samples} are recorded`)
  })

  for (const rate of [1e-3, 1e-6, 1e-9, 1e-15, Number.MIN_VALUE]) {
    test(`has each sample recorded, up to a thousand at once: ${rate}`, () => {
      const sampler = new Sampler('pool', rate)
      for (let i = 0; i < 1000; i++) assert.equal(typeof sampler.take(startThread), 'string')
    })
  }

  for (const [rate, atOnce] of [
    [1e-9, 1000],
    [1 / 128, 1000],
    [1 / 2, 64_000]
  ]) {
    test(`has no more recorded than so many at once, and a second: ${rate}`, () => {
      const sampler = new Sampler('pool', rate)
      const start = performance.now()
      let taken = 0
      for (let i = 0; i < 1.5 * atOnce; i++) if (sampler.take(startThread) !== undefined) taken++
      const seconds = (performance.now() - start) / 1000
      const most = atOnce + Math.ceil((seconds * atOnce) / 10)
      assert.ok(taken >= atOnce && taken <= most, `${taken} records in ${seconds} s`)
    })
  }
})

describe('without a subscriber', () => {
  /** Returns the warnings of a script and its threads: the codes, and the pools that they name. */
  const COUNT_WARNINGS = `
    const warnings = []
    process.on('warning', ({ code, message }) => warnings.push([code, message]))
    const collect = async () => {
      for (let i = 0; i < 20; i++) {
        globalThis.gc()
        for (let j = 0; j < 5; j++) await new Promise(setImmediate)
      }
    }
  `

  test('the first leak of a call site is a warning, and no other', () => {
    const output = runScript(`
      ${COUNT_WARNINGS}
      ;(async () => {
        for (const name of ['one', 'two']) {
          for (const detachOnRelease of [true, false]) {
            const pool = new cistern.BufferPool({ name, leakSampleRate: 1, detachOnRelease })
            function hereItIs() { pool.allocUnsafe(1234) }
            function andHere() { pool.allocUnsafe(1234) }
            for (let i = 0; i < 20; i++) hereItIs()
            await collect()
            for (let i = 0; i < 20; i++) andHere()
            await collect()
            if (pool.stats().collectedCount !== 40) throw new Error('not collected')
          }
        }
        console.log(JSON.stringify(warnings))
      })()
    `)
    const warnings = JSON.parse(output)
    assert.equal(warnings.length, 8)
    for (const [i, [code, message]] of warnings.entries()) {
      assert.equal(code, 'CISTERN_LEAK')
      assert.match(message, new RegExp(`'${i < 4 ? 'one' : 'two'}'`))
      assert.match(message, /1234 bytes/)
      assert.match(message, i % 2 === 0 ? /hereItIs/ : /andHere/)
      assert.ok(!message.includes(LIB))
    }
  })

  test('at most ten call sites of a pool are warned of, and the last warning says so', () => {
    const output = runScript(`
      ${COUNT_WARNINGS}
      const pool = new cistern.BufferPool({ name: 'leaky', leakSampleRate: 1 })
      ;(async () => {
        for (let i = 1; i <= 15; i++) {
          new Function('pool', 'function site' + i + '() { pool.allocUnsafe(1000) } site' + i + '()')(pool)
          await collect()
        }
        console.log(JSON.stringify(warnings))
      })()
    `)
    const warnings = JSON.parse(output)
    assert.equal(warnings.length, 10)
    for (const [i, [, message]] of warnings.entries()) {
      assert.match(message, new RegExp(`at site${i + 1} `))
      assert.match(
        message,
        i < 9 ? /Others of its call site are told/ : /of any call site, are told/
      )
    }
  })

  test('the first leak of a call site in all threads is a warning, and no other', () => {
    const output = runScript(`
      ${COUNT_WARNINGS}
      const { Worker } = require('node:worker_threads')
      const pool = new cistern.BufferPool({ name: 'common', leakSampleRate: 1 })
      const source = ${JSON.stringify(`
        const { parentPort, workerData } = require('node:worker_threads')
        const pool = require(${JSON.stringify(path.join(__dirname, '..', '..'))}).BufferPool.attach(workerData)
        ${COUNT_WARNINGS}
        ;(async () => {
          for (let i = 0; i < 20; i++) pool.allocUnsafe(1000)
          await collect()
          parentPort.postMessage(warnings)
        })()
      `)}
      ;(async () => {
        const workers = Array.from({ length: 4 }, () => {
          const worker = new Worker(source, { eval: true, workerData: pool.handle })
          const next = (event) => new Promise((resolve) => worker.once(event, resolve))
          return { told: next('message'), ended: next('exit') }
        })
        for (let i = 0; i < 20; i++) pool.allocUnsafe(1000)
        await collect()
        const theirs = await Promise.all(workers.map(({ told }) => told))
        await Promise.all(workers.map(({ ended }) => ended))
        await collect()
        console.log(JSON.stringify([[...warnings, ...theirs.flat()], pool.stats().collectedCount]))
      })()
    `)
    const [warnings, collectedCount] = JSON.parse(output)
    assert.equal(collectedCount, 100)
    // One is of the main thread's call site, the other of that of the workers, which have the same
    // code.
    assert.deepEqual(
      warnings.map(([code]) => code),
      ['CISTERN_LEAK', 'CISTERN_LEAK']
    )
    for (const [, message] of warnings) assert.match(message, /'common'/)
  })

  test('there is no warning where nothing has leaked, at rate 0, or with a subscriber', () => {
    const output = runScript(`
      ${COUNT_WARNINGS}
      ;(async () => {
        const released = new cistern.BufferPool({ leakSampleRate: 1 })
        for (let i = 0; i < 100; i++) released.release(released.allocUnsafe(1000))
        const unsampled = new cistern.BufferPool({ leakSampleRate: 0 })
        for (let i = 0; i < 100; i++) unsampled.allocUnsafe(1000)
        await collect()
        let count = 0
        const tell = () => { count++ }
        require('node:diagnostics_channel').subscribe('cistern:leak', tell)
        const heard = new cistern.BufferPool({ leakSampleRate: 1 })
        for (let i = 0; i < 100; i++) heard.allocUnsafe(1000)
        await collect()
        console.log(JSON.stringify([warnings, count]))
      })()
    `)
    assert.deepEqual(JSON.parse(output), [[], 100])
  })

  test('a leak does not end a process that takes no warnings, nor keep one alive', () => {
    const leak = `
      const pool = new cistern.BufferPool({ leakSampleRate: 1 })
      for (let i = 0; i < 10; i++) pool.allocUnsafe(1000)
      globalThis.gc()
      process.on('exit', () => console.log('exit'))
    `
    for (const flags of [[], ['--no-warnings'], ['--trace-warnings']]) {
      assert.equal(runScript(leak, { flags }).trim(), 'exit')
    }
  })
})
