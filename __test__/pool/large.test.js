'use strict'

/**
 * Pools of many GiB: sums of bytes, and of units of 64 bytes, are beyond 32 bits. Nobody touches
 * the memory, so it takes only addresses.
 */

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const { BufferPool } = require('../..')
const {
  MODES,
  balanced,
  endsShow,
  external,
  givesAtOnce,
  isChecked,
  until
} = require('../support/helpers')

const GIB = 2 ** 30

const OPTIONS = { maxBytes: Infinity, maxBlockSize: GIB, leakSampleRate: 0 }

/** Scrubbing touches all of it. */
const WAYS = MODES.filter(({ options }) => !options.zeroOnRelease)

/**
 * These tests need 64 bits, and more memory than V8 or a checker allows.
 */
const skip = !external || isChecked || !['x64', 'arm64'].includes(process.arch)

/**
 * Leases `count` blocks of 1 GiB; returns `undefined` if the system refuses that many addresses.
 *
 * @param {BufferPool} pool
 * @param {number} count
 */
function leaseAll(pool, count) {
  /** @type {Buffer[]} */
  const buffers = []
  try {
    while (buffers.length < count) buffers.push(pool.allocUnsafe(GIB))
    return buffers
  } catch (error) {
    if (error.code !== 'ERR_MEMORY_ALLOCATION_FAILED' && !/refused/.test(error.message)) throw error
    for (const buffer of buffers) pool.release(buffer)
    return undefined
  }
}

for (const count of [65, 130, 300]) {
  describe(`${count} GiB`, { skip }, () => {
    for (const { mode, options } of WAYS) {
      test(`are leased, counted, released and freed: ${mode}`, async (context) => {
        const pool = new BufferPool({ ...OPTIONS, ...options, idleTimeout: 100 })
        const buffers = leaseAll(pool, count)
        if (buffers === undefined) return context.skip('the system refuses so many addresses')
        assert.ok(buffers.every((buffer) => buffer.length === GIB))
        const full = pool.stats()
        assert.equal(full.inUseBytes, count * GIB)
        assert.equal(full.allocBytes, count * GIB)
        assert.equal(full.freshBytes, count * GIB)
        assert.equal(full.peakInUseBytes, count * GIB)
        assert.deepEqual([full.idleBytes, full.unpooledCount], [0, 0])
        const [first, ...others] = buffers
        pool.release(first)
        assert.equal(pool.stats().inUseBytes, (count - 1) * GIB)
        for (const buffer of others) pool.release(buffer)
        const released = pool.stats()
        assert.equal(released.inUseBytes, 0)
        assert.equal(released.peakInUseBytes, count * GIB)
        await until(() => pool.stats().idleBytes === 0, 'what is idle is freed')
        const { freedBytes, overheadBytes } = await balanced(pool)
        assert.equal(freedBytes, count * GIB)
        assert.ok(overheadBytes < 64 * 1024, `${overheadBytes} bytes`)
        // The thread's sums are right, too: one more block stays idle, and is freed.
        pool.release(pool.allocUnsafe(64))
        await until(() => pool.stats().idleBytes === 0, 'the small block is freed')
      })

      test(`serve a waiter when they are released: ${mode}`, async (context) => {
        const pool = new BufferPool({ ...OPTIONS, ...options, maxBytes: count * GIB })
        const buffers = leaseAll(pool, count)
        if (buffers === undefined) return context.skip('the system refuses so many addresses')
        const waiting = [GIB, 1000, GIB / 2].map((size) => pool.acquire(size))
        pool.release(/** @type {Buffer} */ (buffers.pop()))
        pool.release(/** @type {Buffer} */ (buffers.pop()))
        const served = await Promise.all(waiting)
        assert.deepEqual(
          served.map(({ length }) => length),
          [GIB, 1000, GIB / 2]
        )
        assert.ok(pool.stats().inUseBytes <= count * GIB)
        for (const buffer of [...buffers, ...served]) pool.release(buffer)
        pool.trim()
        await until(() => pool.stats().idleBytes === 0, 'all is freed')
        await balanced(pool)
      })
    }

    test('return to the pool when they are dropped', { skip: !endsShow }, async (context) => {
      const pool = new BufferPool({ ...OPTIONS, idleTimeout: 0 })
      let buffers = leaseAll(pool, count)
      if (buffers === undefined) return context.skip('the system refuses so many addresses')
      buffers = undefined
      await until(() => {
        globalThis.gc?.()
        return pool.stats().inUseBytes === 0
      }, 'all are collected')
      const { collectedCount, freedBytes } = await balanced(pool)
      assert.deepEqual([collectedCount, freedBytes], [count, count * GIB])
    })

    test('are trimmed in one call, at once where the runtime can', {
      skip: !givesAtOnce
    }, async (context) => {
      const pool = new BufferPool({ ...OPTIONS, idleTimeout: Infinity })
      const buffers = leaseAll(pool, count)
      if (buffers === undefined) return context.skip('the system refuses so many addresses')
      for (const buffer of buffers) pool.release(buffer)
      assert.equal(pool.trim(GIB), (count - 1) * GIB)
      assert.equal(pool.stats().idleBytes, GIB)
      assert.equal(pool.trim(), GIB)
      await balanced(pool)
    })
  })
}
