'use strict'

const assert = require('node:assert/strict')
const { constants } = require('node:buffer')
const v8 = require('node:v8')
const { describe, test } = require('node:test')
const { BufferPool, shared } = require('../..')
const { balanced, collectUntil, inEveryMode, posts } = require('../support/helpers')

const KIB = 1024
const MIB = 1024 * KIB

/** Returns the parts of a thrown error that users rely on. */
function errorOf(call) {
  try {
    call()
  } catch (error) {
    return { name: error.name, code: error.code, message: error.message }
  }
  return assert.fail('it threw nothing')
}

describe('allocUnsafe', () => {
  test(
    'gives a Buffer of exactly the length asked for, at every edge of a size class',
    inEveryMode((pool) => {
      const edges = [1, 2, 64, 256, 320, 512, KIB, 1280, 4 * KIB, 64 * KIB, 80 * KIB, MIB, 32 * MIB]
      for (const edge of edges) {
        for (const size of [edge - 1, edge, edge + 1]) {
          const buffer = pool.allocUnsafe(size)
          assert.equal(buffer.length, size)
          assert.equal(buffer.byteOffset, 0)
          assert.ok(Buffer.isBuffer(buffer))
          assert.ok(buffer.buffer.byteLength >= size)
          if (size > 0) buffer[size - 1] = 255
          pool.release(buffer)
        }
      }
    })
  )

  test('wastes at most a quarter above 1 KiB', () => {
    const pool = new BufferPool()
    for (let size = KIB + 1; size <= 32 * MIB; size = Math.ceil(size * 1.01)) {
      const lease = pool.lease(size)
      const block = lease.buffer.buffer.byteLength
      assert.ok(block <= size * 1.25, `${size} bytes got a block of ${block}`)
      lease.release()
    }
    pool.close()
  })

  test('gives two leases two blocks', () => {
    const pool = new BufferPool()
    const [a, b] = [pool.allocUnsafe(100).fill(1), pool.allocUnsafe(100).fill(2)]
    assert.notEqual(a.buffer, b.buffer)
    assert.ok(a.every((byte) => byte === 1) && b.every((byte) => byte === 2))
  })

  test(
    'hands a released block out again',
    inEveryMode(async (pool) => {
      pool.release(pool.allocUnsafe(100 * KIB))
      await balanced(pool)
      pool.release(pool.allocUnsafe(100 * KIB))
      const { allocCount, freshCount, hitCount, missCount } = pool.stats()
      assert.deepEqual(
        { allocCount, freshCount, hitCount, missCount },
        { allocCount: 2, freshCount: 1, hitCount: 1, missCount: 1 }
      )
    })
  )

  test(
    'serves an empty Buffer, which is released like any other',
    inEveryMode((pool) => {
      const buffer = pool.allocUnsafe(0)
      assert.equal(buffer.length, 0)
      assert.ok(pool.owns(buffer))
      pool.release(buffer)
      assert.equal(pool.owns(buffer), false)
      assert.throws(() => pool.release(buffer), { code: 'ERR_CISTERN_ALREADY_RELEASED' })
      assert.equal(pool.allocUnsafe(-0).length, 0)
    })
  )

  test('leaves what is larger than maxBlockSize to V8', async () => {
    for (const detachOnRelease of [true, false]) {
      const pool = new BufferPool({ maxBlockSize: 1000, detachOnRelease })
      pool.release(pool.allocUnsafe(1000))
      assert.equal(pool.stats().unpooledCount, 0)
      const large = pool.allocUnsafe(1001)
      assert.equal(large.length, 1001)
      assert.ok(pool.owns(large))
      const stats = await balanced(pool)
      assert.equal(stats.unpooledCount, 1)
      assert.equal(stats.allocBytes, 2001)
      assert.equal(stats.inUseCount, 0)
      pool.release(large.subarray(5, 10))
      assert.equal(large.length, detachOnRelease ? 0 : 1001)
      assert.throws(() => pool.release(large), { code: 'ERR_CISTERN_ALREADY_RELEASED' })
      assert.equal(pool.stats().releaseCount, 2)
    }
  })

  for (const size of [undefined, null, '5', 5n, {}, [], true, NaN, -1, -Infinity, Infinity]) {
    test(`refuses the size ${String(size)} as Buffer.allocUnsafe does`, () => {
      const pool = new BufferPool()
      const expected = errorOf(() => Buffer.allocUnsafe(size))
      for (const call of [
        () => pool.allocUnsafe(size),
        () => pool.alloc(size),
        () => pool.alloc(size, 'x'),
        () => pool.lease(size)
      ]) {
        assert.deepEqual(errorOf(call), expected)
      }
      assert.equal(pool.stats().allocCount, 0)
    })
  }

  for (const size of [0.5, 1.5, 1e-9, constants.MAX_LENGTH + 2, Number.MAX_VALUE]) {
    test(`refuses the size ${size} as out of range`, () => {
      const pool = new BufferPool()
      for (const call of [() => pool.allocUnsafe(size), () => pool.alloc(size)]) {
        assert.throws(call, { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: /"size"/ })
      }
    })
  }
})

describe('alloc', () => {
  test(
    'fills as Buffer.alloc fills',
    inEveryMode((pool) => {
      for (const args of [
        [10],
        [10, 0],
        [10, 7],
        [10, 300],
        [10, -1],
        [10, 'abc'],
        [10, ''],
        [10, 'ÿ', 'latin1'],
        [10, 'abcd', 'hex'],
        [10, 'YWJj', 'base64'],
        [10, Buffer.from('xyz')],
        [10, new Uint8Array([1, 2])],
        [0, 'abc'],
        [0, 'zz', 'hex'],
        [70_000, 'pattern']
      ]) {
        pool.release(pool.allocUnsafe(args[0]).fill(0xee))
        const buffer = pool.alloc(...args)
        assert.ok(buffer.equals(Buffer.alloc(...args)), `alloc(${args})`)
        pool.release(buffer)
      }
    })
  )

  test(
    'throws what Buffer.alloc throws, and leaves nothing leased',
    inEveryMode((pool) => {
      for (const args of [
        [10, 'zz', 'hex'],
        [10, 'a', 'no-such-encoding'],
        [10, 'a', 5],
        [10, new Uint8Array(0)]
      ]) {
        assert.deepEqual(
          errorOf(() => pool.alloc(...args)),
          errorOf(() => Buffer.alloc(...args))
        )
        assert.equal(pool.stats().inUseCount, 0)
      }
    })
  )

  test(
    'gives zeros on a block that was used',
    inEveryMode((pool) => {
      for (const size of [1, 100, 64 * KIB]) {
        pool.release(pool.allocUnsafe(size).fill(1))
        const buffer = pool.alloc(size)
        assert.ok(buffer.every((byte) => byte === 0))
        pool.release(buffer)
      }
    })
  )
})

describe('lease', () => {
  test(
    'carries its Buffer and its release',
    inEveryMode((pool) => {
      const lease = pool.lease(100)
      assert.equal(lease.buffer.length, 100)
      assert.ok(pool.owns(lease.buffer))
      lease.release()
      lease.release()
      assert.equal(pool.stats().inUseCount, 0)
      assert.equal(pool.stats().releaseCount, 1)
    })
  )

  test('is zero-filled where asked', () => {
    const pool = new BufferPool({ detachOnRelease: false })
    pool.release(pool.allocUnsafe(100).fill(1))
    assert.ok(pool.lease(100, { zero: true }).buffer.every((byte) => byte === 0))
  })

  test('is released by Symbol.dispose', () => {
    const pool = new BufferPool()
    const lease = pool.lease(100)
    lease[Symbol.dispose]()
    assert.equal(pool.stats().inUseCount, 0)
  })

  test(
    'does not release a later lease of the same block',
    inEveryMode((pool) => {
      const stale = pool.lease(100)
      pool.release(stale.buffer)
      const buffer = pool.allocUnsafe(100)
      const lease = pool.lease(100)
      stale.release()
      stale[Symbol.dispose]()
      assert.ok(pool.owns(buffer) && pool.owns(lease.buffer))
      assert.equal(pool.stats().inUseCount, 2)
      pool.release(buffer)
      lease.release()
    })
  )

  test('refuses options that are none', () => {
    const pool = new BufferPool()
    for (const options of [null, 5, 'zero']) {
      assert.throws(() => pool.lease(1, options), { code: 'ERR_INVALID_ARG_TYPE' })
    }
    assert.throws(() => pool.lease(1, { zero: 1 }), { message: /options\.zero.*boolean.*1/ })
    assert.equal(pool.stats().allocCount, 0)
  })
})

describe('a leased Buffer', () => {
  test('has the V8 map of any other Buffer, in every mode and at every turn', () => {
    v8.setFlagsFromString('--allow-natives-syntax')
    const haveSameMap = new Function('a', 'b', 'return %HaveSameMap(a, b)')
    const model = Buffer.allocUnsafeSlow(100)
    assert.ok(haveSameMap(model, Buffer.from(new ArrayBuffer(8), 0, 4)))
    for (const detachOnRelease of [true, false]) {
      const pool = new BufferPool({ detachOnRelease })
      for (let i = 0; i < 3; i++) {
        for (const size of [100, 50]) {
          const buffer = pool.allocUnsafe(size)
          assert.ok(haveSameMap(model, buffer))
          pool.release(buffer)
        }
      }
    }
  })

  test('shows nothing of the pool on itself or its ArrayBuffer', () => {
    const buffer = new BufferPool().allocUnsafe(10)
    assert.deepEqual(Reflect.ownKeys(buffer.buffer), [])
    assert.equal(Object.getPrototypeOf(buffer), Buffer.prototype)
    assert.equal(Object.getPrototypeOf(buffer.buffer), ArrayBuffer.prototype)
  })

  test('can be posted at the first lease as at any other', { skip: !posts }, async () => {
    for (const detachOnRelease of [true, false]) {
      const pool = new BufferPool({ detachOnRelease })
      const post = () => {
        const buffer = pool.allocUnsafe(10).fill(7)
        const posted = structuredClone(buffer, { transfer: [buffer.buffer] })
        assert.ok(posted.every((byte) => byte === 7))
        assert.throws(() => pool.release(buffer), { code: 'ERR_CISTERN_DETACHED' })
        pool.release(pool.allocUnsafe(10))
      }
      for (let turn = 0; turn < 3; turn++) post()
      await collectUntil(() => pool.stats().collectedCount === 3, 'all three are back')
    }
  })
})

describe('shared', () =>
  test('is one pool with the default options', () => {
    assert.ok(shared instanceof BufferPool)
    assert.equal(require('../..').shared, shared)
    assert.equal(shared.stats().name, 'shared')
    const buffer = shared.allocUnsafe(10)
    shared.release(buffer)
    assert.equal(buffer.length, 0)
  }))
