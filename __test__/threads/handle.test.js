'use strict'

/**
 * Handles: how other threads get to a pool, and what can't lead to one.
 *
 * A handle leads to its own pool or to a documented error, whatever happened to it on its way.
 */

const assert = require('node:assert/strict')
const { fork } = require('node:child_process')
const { once } = require('node:events')
const path = require('node:path')
const { after, describe, test } = require('node:test')
const v8 = require('node:v8')
const { Worker } = require('node:worker_threads')
const fc = require('fast-check')
const { BufferPool, shared } = require('../..')
const { balanced, runScript, settle } = require('../support/helpers')
const { STALE, gone, handleOfDropped, invalid, startThread } = require('../support/handles')

const ENTRY = JSON.stringify(path.join(__dirname, '..', '..'))

/** Digits of a key: of the process, of the pool, and of the proof that cistern has made it. */
const KEY_DIGITS = 48
const PROCESS_DIGITS = 16

const INVALID_ARG_TYPE = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE', message: /"handle"/ }

const NO_HANDLE = 'it is no handle'
const FOREIGN = 'it was made in another process, or by another copy of cistern in this one'
const FORGED = 'it was not made by cistern'

describe('a handle', () => {
  test('is plain and frozen, and the same each time', () => {
    const [pool, other] = [new BufferPool({ name: 'mine' }), new BufferPool({ name: 'mine' })]
    const { handle } = pool
    assert.equal(Object.getPrototypeOf(handle), Object.prototype)
    assert.ok(Object.isFrozen(handle))
    assert.deepEqual(Object.keys(handle), ['type', 'name', 'key'])
    assert.equal(handle.type, 'cistern.pool')
    assert.equal(handle.name, 'mine')
    assert.match(handle.key, new RegExp(`^[0-9a-f]{${KEY_DIGITS}}$`))
    assert.deepEqual(pool.handle, handle)
    assert.notEqual(other.handle.key, handle.key)
    assert.throws(() => {
      pool.handle = handle
    }, TypeError)
  })

  test('leads to the very same object in the thread where its pool is at home', () => {
    const pool = new BufferPool()
    const { handle } = pool
    const copies = [
      handle,
      pool.handle,
      structuredClone(handle),
      structuredClone({ deep: [{ handle }] }).deep[0].handle,
      JSON.parse(JSON.stringify(handle)),
      v8.deserialize(v8.serialize(handle)),
      { ...handle, name: 'another', more: 1 },
      Object.assign(Object.create(null), handle)
    ]
    for (const copy of copies) assert.equal(BufferPool.attach(copy), pool)
    assert.equal(BufferPool.attach(shared.handle), shared)
  })

  test('goes by workerData, by message, in what it is nested in, and as JSON', async () => {
    const pool = new BufferPool()
    const { handle } = pool
    const worker = new Worker(
      `
      const { parentPort, workerData } = require('node:worker_threads')
      const { BufferPool } = require(${ENTRY})
      parentPort.once('message', ({ plain, nested, inMap, json }) => {
        const handles = [workerData, plain, nested[0].handle, inMap.get('handle'), JSON.parse(json)]
        const pools = handles.map((handle) => BufferPool.attach(handle))
        pools.forEach((pool, i) => pool.release(pool.allocUnsafe(100 + i)))
        parentPort.postMessage([new Set(pools).size, pools[0].handle, pools[0].stats().allocBytes])
      })
      `,
      { eval: true, workerData: handle }
    )
    worker.postMessage({
      plain: handle,
      nested: [{ handle }],
      inMap: new Map([['handle', handle]]),
      json: JSON.stringify(handle)
    })
    const [[answer]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    assert.deepEqual(answer, [1, handle, 100 + 101 + 102 + 103 + 104])
    assert.equal(pool.stats().allocCount, 5)
    await balanced(pool)
  })

  test('goes on from worker to worker, and home again', async () => {
    const pool = new BufferPool({ name: 'far' })
    const source = `
      const { parentPort, Worker, workerData } = require('node:worker_threads')
      const { BufferPool } = require(${ENTRY})
      const { depth, handle, source } = workerData
      const pool = BufferPool.attach(handle)
      const buffer = pool.allocUnsafe(1000 * depth)
      if (depth === 4) {
        parentPort.postMessage(pool.handle)
        pool.release(buffer)
      } else {
        const data = { depth: depth + 1, handle: pool.handle, source }
        const child = new Worker(source, { eval: true, workerData: data })
        child.once('message', (handle) => parentPort.postMessage(handle))
        child.once('exit', () => pool.release(buffer))
      }
    `
    const workerData = { depth: 1, handle: pool.handle, source }
    const worker = new Worker(source, { eval: true, workerData })
    const [[handle]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    assert.deepEqual(handle, pool.handle)
    assert.equal(BufferPool.attach(handle), pool)
    const { allocCount, allocBytes, releaseCount, inUseCount } = await balanced(pool)
    assert.deepEqual([allocCount, allocBytes, releaseCount, inUseCount], [4, 10_000, 4, 0])
  })

  test('keeps no pool alive, and neither does a thread that only has the handle', async () => {
    const thread = startThread()
    const handle = await handleOfDropped(async (pool) => {
      pool.release(pool.allocUnsafe(1000))
      await thread.run((self, handle) => {
        self.kept = handle
      }, pool.handle)
    })
    await gone(handle)
    await assert.rejects(
      thread.run(({ BufferPool, kept }) => BufferPool.attach(kept)),
      invalid(STALE)
    )
    await thread.terminate()
  })

  test('leads to a pool that is held by nothing but a leased Buffer', async () => {
    let buffer
    const handle = await (() => {
      const pool = new BufferPool({ name: 'held' })
      buffer = pool.allocUnsafe(1000).fill(4)
      return pool.handle
    })()
    for (let i = 0; i < 5; i++) {
      globalThis.gc()
      await settle()
    }
    const pool = BufferPool.attach(handle)
    assert.ok(pool.owns(buffer))
    assert.ok(buffer.every((byte) => byte === 4))
    pool.release(buffer)
    const { releaseCount, inUseCount } = await balanced(pool)
    assert.deepEqual([releaseCount, inUseCount], [1, 0])
  })
})

describe('attach', () => {
  const pool = new BufferPool({ name: 'mine' })
  const { handle } = pool
  const { key } = handle
  const before = pool.stats()

  after(() => assert.deepEqual(pool.stats(), before, 'no attempt has left a trace'))

  test('refuses what is no object', () => {
    for (const value of [undefined, null, 0, 5n, '', key, true, Symbol('handle'), () => {}]) {
      assert.throws(() => BufferPool.attach(value), INVALID_ARG_TYPE)
    }
    assert.throws(() => BufferPool.attach(), INVALID_ARG_TYPE)
  })

  test('refuses what has another shape', () => {
    const wrong = [
      {},
      [],
      [handle],
      { handle },
      { key },
      { type: 'cistern.pool' },
      { ...handle, type: 'cistern.Pool' },
      { ...handle, type: undefined },
      { ...handle, type: Object('cistern.pool') },
      { ...handle, key: undefined },
      { ...handle, key: 5 },
      { ...handle, key: [key] },
      { ...handle, key: Object(key) },
      { ...handle, key: Buffer.from(key, 'hex') },
      new Map(Object.entries(handle)),
      Buffer.from(key, 'hex'),
      new Date(),
      /key/,
      pool
    ]
    for (const value of wrong) assert.throws(() => BufferPool.attach(value), invalid(NO_HANDLE))
  })

  const malformed = {
    empty: '',
    'of one digit': '0',
    'short of a digit': key.slice(1),
    'short of two digits': key.slice(2),
    'with a digit more': `${key}0`,
    'with two digits more': `${key}00`,
    'with a digit more in front': `0${key}`,
    doubled: key + key,
    'with a space': ` ${key}`,
    'with a line break': `${key}\n`,
    'with a zero byte': `${key.slice(1)}\0`,
    'that is no number': 'g'.repeat(KEY_DIGITS),
    'with signs': '+f'.repeat(KEY_DIGITS / 2),
    'with a prefix': `0x${key.slice(2)}`,
    'with a wide digit': `${key.slice(1)}\uff11`,
    'with half a character': `${key.slice(1)}\ud800`,
    'that is very long': key.repeat(50_000)
  }
  for (const [what, wrong] of Object.entries(malformed)) {
    test(`refuses a key ${what}`, () => {
      assert.throws(() => BufferPool.attach({ ...handle, key: wrong }), invalid(NO_HANDLE))
    })
  }

  test('refuses a key with any digit changed', () => {
    for (let at = 0; at < KEY_DIGITS; at++) {
      for (const digit of '0123456789abcdef') {
        if (digit === key[at]) continue
        const wrong = { ...handle, key: key.slice(0, at) + digit + key.slice(at + 1) }
        const reason = at < PROCESS_DIGITS ? FOREIGN : FORGED
        assert.throws(() => BufferPool.attach(wrong), invalid(reason), `digit ${at}: ${digit}`)
      }
    }
  })

  test('refuses one pool’s number with another’s proof', () => {
    const other = new BufferPool().handle.key
    const mixed = key.slice(0, 32) + other.slice(32)
    assert.throws(() => BufferPool.attach({ ...handle, key: mixed }), invalid(FORGED))
    assert.throws(() => BufferPool.attach({ ...handle, key: '0'.repeat(48) }), invalid(FOREIGN))
  })

  test('leads to the same object by capital digits', () => {
    assert.equal(BufferPool.attach({ ...handle, key: key.toUpperCase() }), pool)
  })

  test('refuses the handle of another process, both ways', async () => {
    const source = `
      const { BufferPool } = require(${ENTRY})
      const pool = new BufferPool()
      process.on('message', (handle) => {
        try {
          BufferPool.attach(handle)
        } catch ({ code, message }) {
          process.send({ code, message, handle: pool.handle })
        }
      })
    `
    // Its file is not run: it has code instead.
    const child = fork(__filename, [], { execArgv: ['--eval', source] })
    try {
      child.send(handle)
      const [theirs] = await once(child, 'message')
      assert.equal(theirs.code, 'ERR_CISTERN_INVALID_HANDLE')
      assert.match(theirs.message, new RegExp(FOREIGN))
      assert.throws(() => BufferPool.attach(theirs.handle), invalid(FOREIGN))
      child.disconnect()
      await once(child, 'exit')
      assert.throws(() => BufferPool.attach(theirs.handle), invalid(FOREIGN))
    } finally {
      child.kill()
    }
  })

  test('refuses the handles that earlier processes have left', () => {
    const script =
      'console.log(JSON.stringify([new cistern.BufferPool(), cistern.shared].map((pool) => pool.handle)))'
    const [first, second] = [runScript(script), runScript(script)].map((text) => JSON.parse(text))
    assert.notDeepEqual(first, second)
    for (const left of [...first, ...second]) {
      assert.throws(() => BufferPool.attach(left), invalid(FOREIGN))
    }
  })

  test('refuses a handle whose pool is gone', async () => {
    const uses = [() => {}, (pool) => pool.release(pool.allocUnsafe(100)), (pool) => pool.close()]
    for (const use of uses) {
      const stale = await handleOfDropped(use)
      await gone(stale)
      assert.throws(() => BufferPool.attach(stale), invalid(STALE))
    }
  })

  /**
   * Asserts that a value is refused in the documented way.
   *
   * @param {unknown} value
   */
  function assertRefused(value) {
    const isObject = typeof value === 'object' && value !== null
    try {
      BufferPool.attach(value)
    } catch (error) {
      assert.equal(error.code, isObject ? 'ERR_CISTERN_INVALID_HANDLE' : 'ERR_INVALID_ARG_TYPE')
      assert.ok(error instanceof TypeError)
      assert.match(error.message, /^The "handle" argument must be /)
      return
    }
    assert.fail('attached')
  }

  test('refuses whatever else there is', () => {
    fc.assert(
      fc.property(
        fc.anything({
          withBigInt: true,
          withBoxedValues: true,
          withDate: true,
          withMap: true,
          withNullPrototype: true,
          withObjectString: true,
          withSet: true,
          withSparseArray: true,
          withTypedArray: true
        }),
        assertRefused
      ),
      { numRuns: 1000 }
    )
  })

  test('refuses whatever key there is', () => {
    const digits = fc.constantFrom(...'0123456789abcdefABCDEF')
    const anyKey = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'binary', minLength: KEY_DIGITS, maxLength: KEY_DIGITS }),
      fc.string({ unit: digits, maxLength: 200 }),
      fc.string({ unit: digits, minLength: KEY_DIGITS, maxLength: KEY_DIGITS }),
      // A key of this process that belongs to no pool.
      fc
        .string({ unit: digits, minLength: 32, maxLength: 32 })
        .map((rest) => key.slice(0, PROCESS_DIGITS) + rest),
      fc.anything()
    )
    const extra = fc.option(fc.anything(), { nil: undefined })
    fc.assert(
      fc.property(anyKey, extra, (key, name) => assertRefused({ type: 'cistern.pool', name, key })),
      { numRuns: 2000 }
    )
  })

  test('takes a key with some of it replaced for its own only where nothing has changed', () => {
    const edit = fc.record({
      at: fc.nat({ max: KEY_DIGITS }),
      cut: fc.nat({ max: 3 }),
      put: fc.string({ unit: fc.constantFrom(...'0123456789abcdef', ...key), maxLength: 3 })
    })
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
        let edited = key
        for (const { at, cut, put } of edits) {
          edited = edited.slice(0, at) + put + edited.slice(at + cut)
        }
        if (edited === key) assert.equal(BufferPool.attach({ ...handle, key: edited }), pool)
        else assertRefused({ ...handle, key: edited })
      }),
      { numRuns: 2000 }
    )
  })

  /** Its digits again, with some bits flipped. */
  const tampered = fc.array(fc.nat({ max: KEY_DIGITS * 4 - 1 }), { maxLength: 4 }).map((bits) => {
    const bytes = Buffer.from(key, 'hex')
    for (const bit of bits) bytes[bit >> 3] ^= 1 << (bit & 7)
    return bytes.toString('hex')
  })

  test('refuses whatever a message may bring, whatever is hung on it', () => {
    const carrier = fc.oneof(
      fc.anything({ withDate: true, withMap: true, withSet: true, withTypedArray: true }),
      fc.constantFrom(new Error('x'), /x/g, new ArrayBuffer(24), [handle], new Map([['key', key]]))
    )
    const noKey = fc.oneof(
      fc.constantFrom([key], new String(key), Buffer.from(key, 'hex'), BigInt(`0x${key}`), { key }),
      fc.anything()
    )
    fc.assert(
      fc.property(carrier, noKey, fc.boolean(), (carrier, noKey, isHung) => {
        const value = isHung ? { type: handle.type, key: noKey, carrier } : carrier
        fc.pre(noKey !== key)
        assertRefused(value)
        assertRefused(structuredClone({ value }).value)
      }),
      { numRuns: 1000 }
    )
  })

  test('with bits of its key changed leads to its pool or to none, in whichever thread', async () => {
    const handleOf = (key, name, isCapital) =>
      structuredClone({ ...handle, key: isCapital ? key.toUpperCase() : key, name })
    const any = fc.tuple(tampered, fc.string(), fc.boolean())
    const thread = startThread(handle)
    const property = fc.asyncProperty(fc.array(any, { maxLength: 50 }), async (all) => {
      const handles = all.map((one) => handleOf(...one))
      const expected = handles.map((handle) => {
        const changed = handle.key.toLowerCase()
        if (changed === key) return 'attached'
        const isOurs = changed.slice(0, PROCESS_DIGITS) === key.slice(0, PROCESS_DIGITS)
        return isOurs ? FORGED : FOREIGN
      })
      for (const [i, handle] of handles.entries()) {
        if (expected[i] === 'attached') assert.equal(BufferPool.attach(handle), pool)
        else assert.throws(() => BufferPool.attach(handle), invalid(expected[i]))
      }
      const there = await thread.run(({ BufferPool, pool }, handles) => {
        return handles.map((handle) => {
          try {
            return BufferPool.attach(handle) === pool ? 'attached' : 'another pool'
          } catch ({ message }) {
            return /: (.*)\. Received/.exec(message)?.[1]
          }
        })
      }, handles)
      assert.deepEqual(there, expected)
    })
    await fc.assert(property, { numRuns: 50 })
    await thread.terminate()
  })
})
