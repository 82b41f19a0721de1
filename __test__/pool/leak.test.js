'use strict'

/**
 * Leases that are dropped: who is told of which, and what it costs everyone else.
 *
 * What must hold: with every lease sampled, every one that the collector ends is told once, with its
 * call site, and none that was released; and to be sampled changes nothing for anyone.
 */

const assert = require('node:assert/strict')
const diagnostics = require('node:diagnostics_channel')
const path = require('node:path')
const { after, beforeEach, describe, test } = require('node:test')
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

const SIZE = 1000
const BLOCK_SIZE = 1024

const LIB = path.join(__dirname, '..', '..', 'lib') + path.sep

/** Frames that a call site has at most. */
const FRAMES = 8

/** @type {import('../..').LeakMessage[]} what was told in this thread since the test began */
const told = []

const tell = (message) => told.push(message)
diagnostics.subscribe('cistern:leak', tell)
after(() => diagnostics.unsubscribe('cistern:leak', tell))

beforeEach(() => told.splice(0))

/** @type {Set<Thread>} */
const threads = new Set()

/** @param {BufferPool} pool */
function startThread(pool) {
  const thread = new Thread(pool.handle)
  threads.add(thread)
  return thread
}

after(() => Promise.all([...threads].map((thread) => thread.terminate())))

/**
 * Waits until so many of a pool's leases were collected, and what there is to tell of them was told.
 *
 * @param {BufferPool} pool
 * @param {number} count in all
 */
async function collected(pool, count) {
  await eventually(() => pool.stats().collectedCount >= count, `${count} are collected`)
  assert.equal(pool.stats().collectedCount, count)
  await settle()
}

/**
 * What a leak here tells: also that an earlier test was not done telling.
 *
 * @param {BufferPool} pool whose leases are all sampled
 */
async function tellsOfOne(pool) {
  const before = told.length
  const { collectedCount } = pool.stats()
  ;(function leakToBeTold() {
    pool.allocUnsafe(SIZE)
  })()
  await collected(pool, collectedCount + 1)
  await eventually(() => told.length > before, 'it is told')
  const since = told.splice(before)
  assert.equal(since.length, 1)
  assert.match(since[0].stack, /leakToBeTold/)
}

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

  test('is told although stale views of its block are still there', async () => {
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

  test('that waited is told with its own call site, whoever made room for it', async () => {
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

  test('of a worker is told in that worker', async () => {
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

  test('that was posted and dropped there is told where it was leased', {
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

/** The ways to release a Buffer. */
const RELEASES = {
  'the Buffer': (pool, buffer) => pool.release(buffer),
  'a subarray': (pool, buffer) => pool.release(buffer.subarray(10, 20)),
  'an empty subarray': (pool, buffer) => pool.release(buffer.subarray(5, 5)),
  'a DataView': (pool, buffer) => pool.release(new DataView(buffer.buffer)),
  'a Float64Array': (pool, buffer) => pool.release(new Float64Array(buffer.buffer, 8, 2)),
  'the ArrayBuffer': (pool, buffer) => pool.release(buffer.buffer)
}

describe('a lease that was released is never told', () => {
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
        // A function of its own: what it has waited for is in no frame that lives on.
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
    test(`of 0 tells of none, detachOnRelease: ${detachOnRelease}`, async () => {
      const pool = new BufferPool({ leakSampleRate: 0, detachOnRelease })
      for (const leak of Object.values(CALLS)) for (let i = 0; i < 50; i++) await leak(pool)
      await collected(pool, 50 * Object.keys(CALLS).length)
      await tellsOfOne(new BufferPool({ leakSampleRate: 1 }))
      assert.deepEqual(told, [])
    })

    test(`of a quarter tells of a quarter, detachOnRelease: ${detachOnRelease}`, async () => {
      const pool = new BufferPool({ leakSampleRate: 0.25, detachOnRelease })
      for (let i = 1; i <= 40; i++) {
        for (let j = 0; j < 100; j++) pool.allocUnsafe(SIZE)
        await collected(pool, 100 * i)
      }
      // A standard deviation is 0.7 %.
      const share = told.length / 4000
      assert.ok(share > 0.2 && share < 0.3, `of 4,000 leaks ${told.length} are told`)
    })

    test(`of a quarter tells of a quarter of blocks in use again and again, detachOnRelease: ${detachOnRelease}`, {
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
  /** What a script and its threads have been warned of: the codes, and the pools named. */
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
    // One is of the main thread's call site, the other of that of the workers, which have the same code.
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

/**
 * Sets a property of `Error`, or deletes it, while `use` runs, and asserts that it is afterwards as
 * it was set.
 *
 * @param {'stackTraceLimit' | 'prepareStackTrace'} name
 * @param {PropertyDescriptor | undefined} descriptor
 * @param {() => void} use
 */
function withError(name, descriptor, use) {
  const saved = Object.getOwnPropertyDescriptor(Error, name)
  delete Error[name]
  if (descriptor !== undefined) {
    Object.defineProperty(Error, name, { configurable: true, enumerable: true, ...descriptor })
  }
  const before = Object.getOwnPropertyDescriptor(Error, name)
  let afterwards
  try {
    use()
    afterwards = Object.getOwnPropertyDescriptor(Error, name)
  } finally {
    delete Error[name]
    if (saved !== undefined) Object.defineProperty(Error, name, saved)
  }
  assert.deepEqual(afterwards, before)
}

describe('the user’s Error', () => {
  /**
   * What a leak under certain settings of `Error` tells.
   *
   * @param {(use: () => void) => void} during
   * @returns {Promise<string[]>} the stacks
   */
  async function toldUnder(during) {
    const pool = new BufferPool({ leakSampleRate: 1 })
    function underSettings() {
      pool.allocUnsafe(SIZE)
    }
    during(() => {
      underSettings()
      pool.release(pool.allocUnsafe(SIZE))
    })
    await collected(pool, 1)
    assert.equal(pool.stats().releaseCount, 1)
    // Whatever else there was to tell comes before this.
    await tellsOfOne(pool)
    return told.splice(0).map(({ stack }) => stack)
  }

  const limits = { 0: 0, 1: 1, 1000: 1000, Infinity: Infinity, '-1': -1, NaN: NaN, "'x'": 'x' }
  for (const [text, value] of Object.entries(limits)) {
    test(`keeps its stackTraceLimit of ${text}, and a leak is told`, async () => {
      const descriptor = { value, writable: true }
      const stacks = await toldUnder((use) => withError('stackTraceLimit', descriptor, use))
      assert.equal(stacks.length, 1)
      assert.match(stacks[0], /underSettings/)
    })
  }

  test('without a stackTraceLimit has a leak told', async () => {
    const descriptor = { value: undefined, writable: true }
    const stacks = await toldUnder((use) => withError('stackTraceLimit', descriptor, use))
    assert.equal(stacks.length, 1)
  })

  test('gets no stackTraceLimit that was deleted', async () => {
    await toldUnder((use) => withError('stackTraceLimit', undefined, use))
  })

  test('keeps a stackTraceLimit that can not be written', async () => {
    const descriptor = { value: 3, writable: false }
    await toldUnder((use) => withError('stackTraceLimit', descriptor, use))
  })

  test('keeps a stackTraceLimit that throws', async () => {
    const get = () => 3
    const set = () => {
      throw new Error('on purpose')
    }
    await toldUnder((use) => withError('stackTraceLimit', { get, set }, use))
  })

  const show = (site) => `${site.getFunctionName()} in ${site.getFileName()}`

  /** Formats that a stack may have, by what `prepareStackTrace` makes of it. */
  const formats = {
    'a header and lines': (error, sites) => `${error}\n${sites.map(show).join('\n')}`,
    'Node’s own, coloured': (error, sites) =>
      `\u001b[31m${error}\u001b[39m\n    at ${sites.map(show).join('\n    at ')}`
  }
  for (const [name, prepareStackTrace] of Object.entries(formats)) {
    test(`keeps its prepareStackTrace, and a leak is told in that format: ${name}`, async () => {
      const descriptor = { value: prepareStackTrace, writable: true }
      const stacks = await toldUnder((use) => withError('prepareStackTrace', descriptor, use))
      assert.equal(stacks.length, 1)
      assert.match(stacks[0], /^(?: {4}at )?underSettings in .*leak\.test\.js$/m)
      assert.ok(!stacks[0].includes(LIB))
    })
  }

  /** Those that leave no lines, so that a leak may have no call site. */
  const odd = {
    'one line': (_, sites) => sites.map(show).join('; '),
    'the call sites themselves': (_, sites) => sites,
    nothing: () => undefined
  }
  for (const [name, prepareStackTrace] of Object.entries(odd)) {
    const descriptor = { value: prepareStackTrace, writable: true }

    test(`keeps its prepareStackTrace that gives ${name}`, async () => {
      await toldUnder((use) => withError('prepareStackTrace', descriptor, use))
    })

    test(`with a prepareStackTrace that gives ${name} has a leak told all the same`, async () => {
      const stacks = await toldUnder((use) => withError('prepareStackTrace', descriptor, use))
      assert.equal(stacks.length, 1)
    })
  }

  const hostile = {
    throws() {
      throw new Error('on purpose')
    },
    'gives what can not be a string': () => Object.create(null),
    'gives a symbol': () => Symbol('stack')
  }
  for (const [name, prepareStackTrace] of Object.entries(hostile)) {
    test(`with a prepareStackTrace that ${name} hinders no lease`, async () => {
      const descriptor = { value: prepareStackTrace, writable: true }
      await toldUnder((use) => withError('prepareStackTrace', descriptor, use))
    })
  }

  test(
    'with a prepareStackTrace that leases and releases gives no block two owners',
    inEveryMode(
      async (pool) => {
        const nested = []
        const value = () => {
          if (nested.length < 50) {
            pool.release(pool.allocUnsafe(SIZE))
            nested.push(pool.allocUnsafe(SIZE))
          }
          return 'Error\n    at somewhere'
        }
        const use = () => {
          const buffers = Array.from({ length: 10 }, () => pool.allocUnsafe(SIZE))
          const all = [...buffers, ...nested]
          assert.equal(new Set(all.map(({ buffer }) => buffer)).size, all.length)
          for (const [i, buffer] of all.entries()) buffer.fill(i)
          for (const [i, buffer] of all.entries()) assert.ok(buffer.every((byte) => byte === i))
          for (const buffer of all) pool.release(buffer)
        }
        withError('prepareStackTrace', { value, writable: true }, use)
        assert.ok(nested.length >= 10)
        assert.equal(pool.stats().inUseCount, 0)
        nested.length = 0
        await tellsOfOne(pool)
        assert.deepEqual(told, [])
      },
      { leakSampleRate: 1 }
    )
  )

  const leakOnce = `
    let told = []
    require('node:diagnostics_channel').subscribe('cistern:leak', ({ stack }) => told.push(stack))
    const pool = new cistern.BufferPool({ leakSampleRate: 1 })
    function fromScript() { pool.allocUnsafe(1000) }
    const before = JSON.stringify(Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit'))
    fromScript()
    pool.release(pool.allocUnsafe(1000))
    const after = JSON.stringify(Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit'))
    ;(async () => {
      for (let i = 0; i < 20 && pool.stats().collectedCount === 0; i++) {
        globalThis.gc()
        for (let j = 0; j < 5; j++) await new Promise(setImmediate)
      }
      const { collectedCount, releaseCount } = pool.stats()
      console.log(JSON.stringify({ told, collectedCount, releaseCount, isSame: before === after }))
    })()
  `

  for (const flag of ['--stack-trace-limit=0', '--enable-source-maps', '--no-warnings']) {
    test(`may be as ${flag} has it`, () => {
      const { told, ...others } = JSON.parse(runScript(leakOnce, { flags: [flag] }))
      assert.deepEqual(others, { collectedCount: 1, releaseCount: 1, isSame: true })
      assert.equal(told.length, 1)
      assert.match(told[0], /fromScript/)
      assert.ok(!told[0].includes(LIB))
    })
  }

  test('may be frozen', {
    skip: !process.allowedNodeEnvironmentFlags.has('--frozen-intrinsics')
  }, () => {
    const flags = ['--frozen-intrinsics', '--no-warnings']
    const { told, ...others } = JSON.parse(runScript(leakOnce, { flags }))
    assert.deepEqual(others, { collectedCount: 1, releaseCount: 1, isSame: true })
    assert.equal(told.length, 1)
    assert.match(told[0], /fromScript/)
  })
})

describe('a record', () => {
  test(
    'keeps alive neither what is leased, nor who has leased it',
    inEveryMode(
      async (pool) => {
        class Owner {
          lease() {
            return pool.allocUnsafe(SIZE)
          }
        }
        const start = () => {
          const [trimmer, leaker] = [new Owner(), new Owner()]
          const leaked = leaker.lease()
          return {
            kept: trimmer.lease(),
            gone: [trimmer, leaker, leaked, leaked.buffer].map((value) => new WeakRef(value))
          }
        }
        const { kept, gone } = start()
        await eventually(() => gone.every((ref) => ref.deref() === undefined), 'all are collected')
        assert.ok(pool.owns(kept), 'while its record is still there')
        pool.release(kept)
        await settle()
        told.splice(0)
      },
      { leakSampleRate: 1 }
    )
  )

  test('keeps nobody alive who waits', async () => {
    const pool = new BufferPool({ leakSampleRate: 1, maxBytes: BLOCK_SIZE })
    class Owner {
      constructor() {
        this.promise = pool.acquire(SIZE)
      }
    }
    const inTheWay = pool.lease(SIZE)
    const start = () => {
      const owner = new Owner()
      return { promise: owner.promise, ref: new WeakRef(owner) }
    }
    const { promise, ref } = start()
    await eventually(() => ref.deref() === undefined, 'who has asked is collected')
    inTheWay.release()
    pool.release(await promise)
    await balanced(pool)
  })

  /** Ways of ending a lease, a thousand times over and more, as scripts. */
  const ENDS = {
    'is released': 'pool.release(pool.allocUnsafe(1000))',
    'is released by its Lease': 'pool.lease(1000).release()',
    'is released by what it was posted as': `
      const buffer = pool.allocUnsafe(1000)
      const posted = structuredClone(buffer, { transfer: [buffer.buffer] })
      ${external ? 'pool.release(posted)' : ''}
    `,
    'is released after it has waited': `
      const inTheWay = small.allocUnsafe(1000)
      const waiting = small.acquire(1000)
      small.release(inTheWay)
      small.release(await waiting)
    `,
    leaks: 'pool.allocUnsafe(1000)'
  }
  for (const [name, script] of Object.entries(ENDS)) {
    for (const detachOnRelease of [true, false]) {
      test(`goes when its lease ${name}, detachOnRelease: ${detachOnRelease}`, {
        skip: !posts && name.includes('posted')
      }, () => {
        const output = runScript(`
          require('node:diagnostics_channel').subscribe('cistern:leak', () => {})
          const options = { leakSampleRate: 1, detachOnRelease: ${detachOnRelease} }
          const pool = new cistern.BufferPool(options)
          const small = new cistern.BufferPool({ ...options, maxBytes: 1024 })
          const collect = async () => {
            globalThis.gc()
            for (let i = 0; i < 5; i++) await new Promise(setImmediate)
          }
          const heap = async () => {
            for (let i = 0; i < 5; i++) await collect()
            return process.memoryUsage().heapUsed
          }
          const run = async (count) => {
            for (let i = 0; i < count; i++) {
              ${script}
              if (i % 500 === 0) await collect()
            }
          }
          ;(async () => {
            await run(2000)
            const before = await heap()
            await run(20_000)
            console.log((await heap()) - before)
          })()
        `)
        const grown = Number(output)
        // A record has some hundred bytes, of which most is its stack.
        assert.ok(grown < 1_000_000, `after 20,000 leases ${grown} bytes more are in use`)
      })
    }
  }
})
