'use strict'

/** The call site of a sampled lease: its frames, and what the record of a lease holds. */

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const { BufferPool } = require('../..')
const {
  balanced,
  eventually,
  external,
  inEveryMode,
  posts,
  runScript,
  settle
} = require('../support/helpers')
const { BLOCK_SIZE, LIB, SIZE, collected, tellsOfOne, told } = require('../support/leaks')

describe('the user’s Error', () => {
  /**
   * Returns the stacks that leaks report under certain settings of `Error`.
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
    // All earlier reports come before this one.
    await tellsOfOne(pool)
    return told.splice(0).map(({ stack }) => stack)
  }

  const limits = { 0: 0, 1: 1, 1000: 1000, Infinity: Infinity, '-1': -1, NaN: NaN, "'x'": 'x' }
  for (const [text, value] of Object.entries(limits)) {
    test(`keeps its stackTraceLimit of ${text}, and a leak is reported`, async () => {
      const descriptor = { value, writable: true }
      const stacks = await toldUnder((use) => withError('stackTraceLimit', descriptor, use))
      assert.equal(stacks.length, 1)
      assert.match(stacks[0], /underSettings/)
    })
  }

  test('without a stackTraceLimit has a leak reported', async () => {
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
    test(`keeps its prepareStackTrace, and a leak is reported in that format: ${name}`, async () => {
      const descriptor = { value: prepareStackTrace, writable: true }
      const stacks = await toldUnder((use) => withError('prepareStackTrace', descriptor, use))
      assert.equal(stacks.length, 1)
      assert.match(stacks[0], /^(?: {4}at )?underSettings in .*call-site\.test\.js$/m)
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

    test(`with a prepareStackTrace that gives ${name} has a leak reported all the same`, async () => {
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
          const [holder, leaker] = [new Owner(), new Owner()]
          const leaked = leaker.lease()
          return {
            kept: holder.lease(),
            gone: [holder, leaker, leaked, leaked.buffer].map((value) => new WeakRef(value))
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

  test('keeps no waiter alive', async () => {
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
