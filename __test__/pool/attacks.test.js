'use strict'

/**
 * Code that means harm, or does the same by accident: own properties on Buffers and ArrayBuffers,
 * patched prototypes, and watched classes.
 *
 * No block ever has two owners, nothing crashes, and the totals balance.
 */

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const { BufferPool, shared } = require('../..')
const { cacheOf } = require('../../lib/pool/buffer-pool')
const native = require('../../lib/runtime/native')
const { slotOf } = require('../../lib/cache/tag')
const {
  balanced,
  collectUntil,
  external,
  inEveryMode,
  moves,
  settle,
  until
} = require('../support/helpers')

/**
 * Asserts that the next leases all have blocks of their own.
 *
 * @param {BufferPool} pool
 * @param {number} size
 */
function assertOneOwner(pool, size) {
  const leases = Array.from({ length: 5 }, () => pool.allocUnsafe(size))
  assert.equal(new Set(leases.map(({ buffer }) => buffer)).size, leases.length, 'two owners')
  for (const [i, lease] of leases.entries()) lease.fill(i)
  for (const [i, lease] of leases.entries()) assert.ok(lease.every((byte) => byte === i))
  for (const lease of leases) pool.release(lease)
}

describe('an own property', () => {
  for (const answer of [0, 1, 128]) {
    test(
      `byteLength on the ArrayBuffer, ${answer}, that releases when it is read`,
      inEveryMode((pool) => {
        for (const give of [(lease) => lease.release(), (lease) => pool.release(lease.buffer)]) {
          const lease = pool.lease(100)
          const { buffer } = lease.buffer
          let asked = false
          Object.defineProperty(buffer, 'byteLength', {
            get() {
              if (!asked) {
                asked = true
                pool.release(buffer)
              }
              return answer
            }
          })
          give(lease)
          assertOneOwner(pool, 100)
        }
      })
    )
  }

  test(
    'byteLength of 0 does not spare a block from scrubbing',
    inEveryMode(async (pool, { zeroOnRelease = false }) => {
      if (!zeroOnRelease) return
      const buffer = pool.allocUnsafe(100).fill(7)
      Object.defineProperty(buffer.buffer, 'byteLength', { value: 0 })
      pool.release(buffer)
      await settle()
      const next = pool.allocUnsafe(100)
      assert.equal(pool.stats().freshCount, 1)
      assert.ok(next.every((byte) => byte === 0))
    })
  )

  test(
    'length on the Buffer hides no transfer, and reaches no later owner',
    inEveryMode((pool) => {
      const buffer = pool.allocUnsafe(100)
      Object.defineProperty(buffer, 'length', { value: 90 })
      if (moves) {
        const moved = buffer.buffer.transfer()
        assert.throws(() => pool.release(buffer), { code: 'ERR_CISTERN_DETACHED' })
        assert.equal(moved.byteLength, 128)
      }
      assert.equal(pool.allocUnsafe(90).byteLength, 90)
      assertOneOwner(pool, 100)
    })
  )

  test(
    'buffer on a Buffer leads release and lease to no other block',
    inEveryMode((pool) => {
      const victim = pool.allocUnsafe(200).fill(7)
      const stale = pool.allocUnsafe(100)
      Object.defineProperty(stale, 'buffer', { value: victim.buffer })
      pool.release(stale)
      assert.ok(pool.owns(victim))
      pool.lease(100).release()
      assert.ok(pool.owns(victim))
      assertOneOwner(pool, 200)
      assert.ok(victim.every((byte) => byte === 7))
    })
  )

  test(
    'on a frozen ArrayBuffer, or none, changes nothing',
    inEveryMode((pool) => {
      const buffer = pool.allocUnsafe(100)
      Object.freeze(buffer.buffer)
      Object.preventExtensions(buffer)
      pool.release(buffer)
      assertOneOwner(pool, 100)
    })
  )
})

describe('a prototype patched after loading', () => {
  /** Puts `patches` on `target` while `use` runs. */
  function patched(target, patches, use) {
    const saved = Object.getOwnPropertyDescriptors(target)
    Object.defineProperties(target, patches)
    try {
      use()
    } finally {
      for (const name of Reflect.ownKeys(patches)) {
        if (name in saved) Object.defineProperty(target, name, saved[name])
        else delete target[name]
      }
    }
  }

  test(
    'that releases while a block is scrubbed gives it to nobody twice',
    inEveryMode((pool) => {
      const buffer = pool.allocUnsafe(100)
      const value = () => pool.release(buffer)
      const TypedArray = Object.getPrototypeOf(Uint8Array.prototype)
      patched(TypedArray, { fill: { configurable: true, value } }, () => pool.release(buffer))
      assertOneOwner(pool, 100)
    })
  )

  test(
    'of Array sees no slot go by',
    inEveryMode((pool) => {
      const seen = []
      const see = (value) => {
        if (value !== null && typeof value === 'object' && 'arrayBuffer' in value) seen.push(value)
      }
      const { splice, push, pop } = Array.prototype
      const watch = (method) => ({
        configurable: true,
        value(...args) {
          const result = method.apply(this, args)
          for (let i = 0; i < args.length; i++) see(args[i])
          see(result)
          see(result?.[0])
          return result
        }
      })
      const patches = { splice: watch(splice), push: watch(push), pop: watch(pop) }
      patches[0] = { configurable: true, set: see, get() {} }
      patched(Array.prototype, patches, () => {
        const leases = { a: pool.allocUnsafe(100), b: pool.allocUnsafe(100) }
        pool.release(leases.a)
        pool.release(leases.b)
        pool.trim()
      })
      assert.deepEqual(seen, [])
    })
  )
})

test('A WeakRef or a Map that is watched shows nothing of a pool', async () => {
  const { get, set } = Map.prototype
  const { deref } = WeakRef.prototype
  const seen = []
  const watching = (method) =>
    function watcher(...args) {
      const result = Reflect.apply(method, this, args)
      for (const value of [this, ...args, result]) {
        if (value !== null && typeof value === 'object') seen.push(value)
      }
      return result
    }
  const pool = new BufferPool({ idleTimeout: 100 })
  Object.assign(Map.prototype, { get: watching(get), set: watching(set) })
  WeakRef.prototype.deref = watching(deref)
  try {
    assert.equal(BufferPool.attach(pool.handle), pool)
    pool.release(pool.allocUnsafe(100))
    // The core wakes this thread for its idle blocks.
    await until(() => pool.stats().idleBytes === 0, 'it was freed')
  } finally {
    Object.assign(Map.prototype, { get, set })
    WeakRef.prototype.deref = deref
  }
  const ours = ['BufferPool', 'Trimmer', 'ThreadCache', 'Slot']
  const names = seen.map((value) => {
    const held = value instanceof WeakRef ? value.deref() : value
    return held?.constructor?.name
  })
  assert.deepEqual(
    names.filter((name) => ours.includes(name)),
    []
  )
})

describe('A ByteBuffer whose memory is released while it grows', () => {
  /**
   * Grows `buffer`, with `meanwhile` running during that.
   *
   * @param {BufferPool} pool
   * @param {import('../..').ByteBuffer} buffer
   * @param {() => void} meanwhile
   */
  function growWith(pool, buffer, meanwhile) {
    let isToCome = true
    const saved = Error.prepareStackTrace
    Error.prepareStackTrace = (_error, frames) => {
      if (isToCome) {
        isToCome = false
        meanwhile()
      }
      return frames.join('\n')
    }
    try {
      buffer.append(Buffer.alloc(2 * buffer.capacity, 2))
    } finally {
      Error.prepareStackTrace = saved
    }
    assert.equal(isToCome, false, 'nothing was to be had meanwhile')
    assert.equal(pool.stats().name, 'pool')
  }

  for (const isShown of [false, true]) {
    for (const by of ['itself', 'its view']) {
      if (by === 'its view' && !isShown) continue
      test(
        `${isShown ? 'and was shown' : 'and was never shown'}, by ${by}, releases no other's`,
        inEveryMode(
          (pool) => {
            const buffer = pool.byteBuffer(100).append(Buffer.alloc(100, 1))
            const view = isShown ? buffer.view() : undefined
            let victim
            const meanwhile = () => {
              if (by === 'itself') buffer.release()
              else pool.release(view)
              victim = pool.allocUnsafe(128).fill(7)
            }
            assert.throws(() => growWith(pool, buffer, meanwhile), {
              code: 'ERR_CISTERN_ALREADY_RELEASED'
            })
            assert.ok(pool.owns(victim))
            assertOneOwner(pool, 128)
            assert.ok(victim.length === 128 && victim.every((byte) => byte === 7))
            pool.release(victim)
            assert.throws(() => buffer.length, { code: 'ERR_CISTERN_ALREADY_RELEASED' })
            assert.equal(pool.stats().inUseBytes, 0)
          },
          { leakSampleRate: 1 }
        )
      )
    }
  }

  test(
    'is none that was written to meanwhile',
    inEveryMode(
      (pool) => {
        for (const size of [1, 1000]) {
          const buffer = pool.byteBuffer(100).append(Buffer.alloc(100, 1))
          growWith(pool, buffer, () => buffer.append(Buffer.alloc(size, 5)))
          const all = [Buffer.alloc(100, 1), Buffer.alloc(size, 5), Buffer.alloc(256, 2)]
          assert.ok(buffer.toBuffer().equals(Buffer.concat(all)))
          buffer.release()
        }
      },
      { leakSampleRate: 1 }
    )
  )
})

describe('The class of Buffers, made to show what it is given,', () => {
  const FastBuffer = Buffer[Symbol.species]

  /**
   * @param {(view: Uint8Array) => object} show
   * @param {() => void} use
   */
  function watched(show, use) {
    const parent = Object.getPrototypeOf(FastBuffer)
    Object.setPrototypeOf(FastBuffer, function construct(...args) {
      return show(Reflect.construct(Uint8Array, args, new.target))
    })
    try {
      use()
    } finally {
      Object.setPrototypeOf(FastBuffer, parent)
    }
  }

  test(
    'shows nothing of a ByteBuffer that was never shown',
    inEveryMode((pool, { detachOnRelease = true }) => {
      const seen = []
      const buffer = pool.byteBuffer(100).append(new Uint8Array(100))
      const see = (view) => {
        seen.push(view)
        return view
      }
      watched(see, () => {
        buffer.append(new Uint8Array(200)).toBuffer()
        buffer.release()
      })
      if (!detachOnRelease) return
      const leases = [128, 320].map((size) => pool.allocUnsafe(size))
      for (const lease of leases) {
        assert.ok(seen.every((view) => view.buffer !== lease.buffer))
        pool.release(lease)
      }
    })
  )

  test('can not say that memory is there that was moved', { skip: !moves }, async (context) => {
    if (!shared.stats().external) return context.skip('what V8 has moves no row')
    const pool = new BufferPool({ detachOnRelease: false })
    let lease
    const lie = (view) => new Proxy(view, { get: (target, key) => (key === '0' ? 1 : target[key]) })
    watched(lie, () => {
      lease = pool.allocUnsafe(100)
    })
    const { buffer } = lease
    lease = undefined
    buffer.transfer(0)
    await collectUntil(() => pool.stats().inUseBytes === 0, 'the block is back')
    const next = pool.allocUnsafe(100)
    assert.throws(() => pool.release(buffer), { code: 'ERR_CISTERN_DETACHED' })
    assert.ok(pool.owns(next))
    pool.release(next)
  })
})

describe('A signal of one that waits', () => {
  test('may release when its listener is removed, and both get their memory', async () => {
    const pool = new BufferPool({ maxBytes: 256, maxBlockSize: 128 })
    const leases = [pool.allocUnsafe(128), pool.allocUnsafe(128)]
    const signal = {
      aborted: false,
      addEventListener() {},
      removeEventListener() {
        if (leases.length > 0) pool.release(leases.pop())
      }
    }
    const waiting = [pool.acquire(128, { signal }), pool.acquire(128)]
    pool.release(leases.pop())
    for (const buffer of await Promise.all(waiting)) pool.release(buffer)
    await balanced(pool)
  })

  test('may be aborted as its listener is added, and nobody waits', async () => {
    const pool = new BufferPool({ maxBytes: 128, maxBlockSize: 128 })
    const lease = pool.allocUnsafe(128)
    const signal = {
      aborted: false,
      addEventListener: (_, abort) => abort(),
      removeEventListener() {}
    }
    await assert.rejects(pool.acquire(128, { signal }), { name: 'AbortError' })
    pool.release(lease)
    await settle()
    assert.equal(pool.stats().inUseBytes, 0)
  })
})

test('A value that an error message can not show is refused all the same', () => {
  const pool = new BufferPool()
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  const bare = Object.setPrototypeOf(new Uint8Array(3), null)
  for (const value of [proxy, bare, Object.create(null)]) {
    assert.throws(() => pool.release(value), { code: 'ERR_CISTERN_NOT_POOLED' })
  }
})

test('A signal that a formatter of stacks aborts leaves no waiter behind', async (context) => {
  const pool = new BufferPool({ maxBytes: 4096, maxBlockSize: 4096, leakSampleRate: 1 })
  const held = pool.allocUnsafe(1024)
  const controller = new AbortController()
  const { prepareStackTrace } = Error
  context.after(() => {
    Error.prepareStackTrace = prepareStackTrace
  })
  Error.prepareStackTrace = () => {
    controller.abort()
    return ''
  }
  const aborted = pool.acquire(4096, { signal: controller.signal })
  Error.prepareStackTrace = prepareStackTrace
  await assert.rejects(aborted, { name: 'AbortError' })
  const second = await pool.acquire(1024)
  assert.equal(pool.stats().inUseBytes, 2048)
  for (const buffer of [held, second]) pool.release(buffer)
  await balanced(pool)
})

describe('The class of what a pool hands out', () => {
  for (const [name, make] of [
    ['a ByteBuffer', (/** @type {BufferPool} */ pool) => pool.byteBuffer()],
    ['a Lease', (/** @type {BufferPool} */ pool) => pool.lease(64)]
  ]) {
    test(`of ${name} leads to no slot`, async () => {
      const pool = new BufferPool()
      const made = make(pool)
      const victim = pool.allocUnsafe(64)
      /** @type {unknown[]} */
      const seen = []
      /** The spy notes every call. */
      const spy = new Proxy(() => {}, {
        get: (_, property) => (property === Symbol.toPrimitive ? () => 0 : spy),
        has: () => true,
        apply: (_, self, args) => {
          seen.push(self, ...args)
          return args.length === 1 && args[0] === 64 ? victim : spy
        }
      })
      const Class = /** @type {any} */ (made).constructor
      for (const args of [
        [spy, 64, 64],
        [victim, spy],
        [undefined, spy, 64, 0],
        [Symbol(), spy, 64]
      ]) {
        try {
          const forged = new Class(...args)
          forged.release()
        } catch (error) {
          assert.ok(error instanceof TypeError || error instanceof Error)
        }
      }
      const slots = seen.filter(
        (value) => typeof value === 'object' && value !== null && 'magazine' in value
      )
      assert.deepEqual(slots, [])
      made.release()
      if (pool.owns(victim)) pool.release(victim)
      assertOneOwner(pool, 64)
      await balanced(pool)
    })
  }

  test('makes no ByteBuffer', () => {
    const buffer = new BufferPool().byteBuffer()
    const Class = /** @type {any} */ (buffer).constructor
    const illegal = { name: 'TypeError', code: 'ERR_ILLEGAL_CONSTRUCTOR' }
    assert.throws(() => new Class({}, 64), illegal)
    assert.throws(() => new (class extends Class {})({}, 64), illegal)
  })
})

describe('A pool shows nothing of another', () => {
  /**
   * Returns the number of new blocks that contain such bytes.
   *
   * @param {number} size
   * @param {string} secret
   */
  function findings(size, secret) {
    const other = new BufferPool()
    const buffers = Array.from({ length: 500 }, () => other.allocUnsafe(size))
    const found = buffers.filter((buffer) => buffer.includes(secret)).length
    for (const buffer of buffers) other.release(buffer)
    return found
  }

  for (const size of [64, 1000, 5000, 50_000]) {
    test(`of which blocks of ${size} bytes were trimmed`, { skip: !external }, async () => {
      const pool = new BufferPool({ idleTimeout: Infinity })
      const buffers = Array.from({ length: 500 }, () => pool.allocUnsafe(size).fill('secret!?'))
      // The blocks that stay retain the pages.
      const [kept, released] = [0, 1].map((rest) => buffers.filter((_, i) => i % 2 === rest))
      for (const buffer of released) pool.release(buffer)
      pool.trim()
      await until(() => pool.stats().idleBytes === 0, 'they are freed')
      assert.equal(findings(size, 'secret!?'), 0)
      for (const buffer of kept) pool.release(buffer)
      await balanced(pool)
    })
  }

  test('of which a ByteBuffer was not worth keeping', { skip: !external }, async () => {
    const pool = new BufferPool({ zeroOnRelease: true, idleTimeout: Infinity })
    cacheOf(pool).calibration.largestStored = 1024
    const text = 'secret!?'.repeat(300)
    const buffers = Array.from({ length: 100 }, () => pool.byteBuffer(3000).append(text))
    const kept = buffers.filter((_, i) => i % 2 === 0)
    for (const buffer of buffers) if (!kept.includes(buffer)) buffer.release()
    assert.equal(pool.stats().discardCount, 50)
    await until(() => pool.stats().idleBytes === 0, 'they are freed')
    assert.equal(findings(3000, 'secret!?'), 0)
    for (const buffer of kept) buffer.release()
    await balanced(pool)
  })
})

test('A ticket that nobody has any more holds no block', async () => {
  const pool = new BufferPool({ maxBytes: 64, maxBlockSize: 64, onExhausted: 'throw' })
  const held = pool.allocUnsafe(64)
  // The timeout of vm can end code during `acquire` like this.
  native.wait(cacheOf(pool).attachment, 0)
  assert.throws(() => pool.allocUnsafe(64), { code: 'ERR_CISTERN_EXHAUSTED' })
  pool.release(held)
  // The trim moves the block to the depot, and so to a waiter.
  pool.trim()
  await until(() => {
    try {
      pool.release(pool.allocUnsafe(64))
      return true
    } catch {
      return false
    }
  }, 'the block can be had again')
  await balanced(pool)
})

describe('A patched prototype', () => {
  test('that is a Proxy sees no Buffer before its owner', async (context) => {
    const pool = new BufferPool({ maxBytes: 4096, maxBlockSize: 4096 })
    const parent = Object.getPrototypeOf(Buffer.prototype)
    context.after(() => Object.setPrototypeOf(Buffer.prototype, parent))
    /** @type {unknown[]} */
    const seen = []
    const spy = new Proxy(parent, {
      get(target, name, receiver) {
        if (name === 'then' && pool.owns(receiver)) seen.push(receiver)
        return Reflect.get(target, name, receiver)
      }
    })
    Object.setPrototypeOf(Buffer.prototype, spy)
    const first = await pool.acquire(4096)
    const waiting = pool.acquire(100)
    pool.release(first)
    const second = await waiting
    Object.setPrototypeOf(Buffer.prototype, parent)
    assert.deepEqual(seen, [])
    assert.ok(pool.owns(second))
    pool.release(second)
    await balanced(pool)
  })

  for (const [mode, options] of [
    ['with detach', {}],
    ['with reuse', { detachOnRelease: false }]
  ]) {
    test(`sees none of the library's own objects through setters: ${mode}`, async (context) => {
      const names = Object.getOwnPropertyNames(cacheOf(new BufferPool()))
      const sample = cacheOf(new BufferPool())
      const kept = sample.pool.allocUnsafe(64)
      const slot = /** @type {object} */ (slotOf(kept.buffer))
      sample.pool.release(kept)
      const parts = [
        sample.elsewhere,
        sample.filler,
        sample.flusher,
        sample.freed,
        sample.sampler,
        sample.segments,
        sample.trimmer,
        sample.waiting,
        sample.wakes
      ]
      for (const inner of [...parts, sample.magazineOf(0), slot]) {
        names.push(...Object.getOwnPropertyNames(inner))
      }
      // The classes of the objects that cut() and wait() make, and of leases.
      names.push('slots', 'fate', 'reason', 'next', 'onLease', 'onError', 'lease', 'promise')
      /** @type {object[]} */
      const seen = []
      const setter = (/** @type {string} */ name) =>
        function (/** @type {unknown} */ value) {
          seen.push(this)
          Object.defineProperty(this, name, {
            __proto__: null,
            value,
            writable: true,
            configurable: true
          })
        }
      const patched = [...new Set(names)].filter((name) => !(name in Object.prototype))
      const unpatch = () => {
        for (const name of patched) Reflect.deleteProperty(Object.prototype, name)
      }
      context.after(unpatch)
      const setters = patched.map((name) => /** @type {const} */ ([name, setter(name)]))
      for (const [name, set] of setters) {
        Object.defineProperty(Object.prototype, name, { __proto__: null, configurable: true, set })
      }
      const pool = new BufferPool({ ...options, maxBytes: 64 * 1024, maxBlockSize: 64 * 1024 })
      const buffers = [pool.allocUnsafe(64), pool.lease(64).buffer, pool.alloc(64, 'x')]
      pool.byteBuffer(10).append('x'.repeat(100)).release()
      const waiting = pool.acquire(64 * 1024)
      for (const buffer of buffers) pool.release(buffer)
      pool.trim()
      unpatch()
      const own = seen.filter((value) => {
        const { name } = value.constructor ?? {}
        return ['ThreadCache', 'Slot', 'Magazine', 'Trimmer', 'Waiting'].includes(name)
      })
      assert.deepEqual(own, [])
      pool.release(await waiting)
      await balanced(pool)
    })
  }

  test("can not answer for a Map's size while someone waits", async (context) => {
    const pool = new BufferPool({ maxBytes: 4096, maxBlockSize: 4096, onExhausted: 'throw' })
    const held = pool.allocUnsafe(4096)
    const waiting = pool.acquire(4096)
    const size = Object.getOwnPropertyDescriptor(Map.prototype, 'size') ?? {}
    context.after(() => Object.defineProperty(Map.prototype, 'size', size))
    let asked = 0
    const get = () => {
      asked++
      throw new Error('no size')
    }
    Object.defineProperty(Map.prototype, 'size', { configurable: true, get })
    pool.release(held)
    Object.defineProperty(Map.prototype, 'size', size)
    assert.equal(asked, 0)
    pool.release(await waiting)
    await balanced(pool)
  })

  test("can not mix another pool's figures into stats()", (context) => {
    const [pool, other] = [new BufferPool(), new BufferPool()]
    const buffers = [64, 4096].map((size) => pool.allocUnsafe(size))
    other.release(other.allocUnsafe(100_000))
    const { push } = Array.prototype
    const { freeze } = Object
    context.after(() => {
      Array.prototype.push = push
      Object.freeze = freeze
    })
    let depth = 0
    const readOther = () => {
      if (depth++ === 0) other.stats()
      depth--
    }
    Array.prototype.push = function (...items) {
      for (let i = 0; i < items.length; i++) this[this.length] = items[i]
      readOther()
      return this.length
    }
    Object.freeze = (value) => {
      readOther()
      return value
    }
    const stats = pool.stats()
    Array.prototype.push = push
    Object.freeze = freeze
    assert.deepEqual([stats.inUseCount, stats.inUseBytes], [2, 4160])
    assert.ok(Object.isFrozen(stats) && Object.isFrozen(stats.classes))
    for (const buffer of buffers) pool.release(buffer)
  })
})
