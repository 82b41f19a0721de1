'use strict'

/**
 * The pool against a model, by sequences of calls that fast-check makes up and shrinks.
 *
 * The model knows each lease's bytes and what the counters must say; the pool must agree after
 * every call.
 */

const assert = require('node:assert/strict')
const { test } = require('node:test')
const fc = require('fast-check')
const { BufferPool } = require('..')
const { MODES, balanced } = require('./helpers')

const MAX_BLOCK_SIZE = 8192

/** One call on the real pool and what it means in the model. */
class Call {
  /**
   * @param {string} text as a failure shows it
   * @param {(model: Model) => boolean} can
   * @param {(model: Model, pool: BufferPool) => void} act
   */
  constructor(text, can, act) {
    this.text = text
    this.can = can
    this.act = act
  }

  check(model) {
    return this.can(model)
  }

  run(model, pool) {
    this.act(model, pool)
    model.agreesWith(pool)
  }

  toString() {
    return this.text
  }
}

class Model {
  /** @type {{ buffer: Buffer, byte: number, pooled: boolean }[]} */
  leases = []
  released = []
  allocCount = 0
  allocBytes = 0
  releaseCount = 0
  unpooledCount = 0
  closed = false

  agreesWith(pool) {
    const stats = pool.stats()
    const pooled = this.leases.filter((lease) => lease.pooled)
    assert.equal(stats.inUseCount, pooled.length)
    for (const name of ['allocCount', 'allocBytes', 'releaseCount', 'unpooledCount']) {
      assert.equal(stats[name], this[name], name)
    }
    const { freshBytes, inUseBytes, idleBytes, freedBytes, quarantinedBytes } = stats
    assert.equal(freshBytes, inUseBytes + idleBytes + freedBytes + quarantinedBytes)
    assert.ok(stats.peakInUseBytes >= inUseBytes)
    if (this.closed) assert.equal(idleBytes, 0)
    for (const { buffer, byte } of this.leases) {
      assert.ok(pool.owns(buffer))
      assert.ok(
        buffer.every((value) => value === byte),
        'a foreign byte'
      )
    }
    for (const buffer of this.released) assert.equal(pool.owns(buffer), false)
  }
}

const pick = (list, n) => list[n % list.length]

/** @param {boolean} detaches */
function calls(detaches) {
  const size = fc.integer({ min: 0, max: MAX_BLOCK_SIZE + 100 })
  const byte = fc.integer({ min: 0, max: 255 })
  const lease = (/** @type {string} */ how) =>
    fc.tuple(size, byte).map(
      ([size, byte]) =>
        new Call(
          `${how}(${size}, ${byte})`,
          (model) => !model.closed,
          (model, pool) => {
            const buffer = {
              allocUnsafe: () => pool.allocUnsafe(size).fill(byte),
              alloc: () => pool.alloc(size, byte),
              lease: () => pool.lease(size).buffer.fill(byte)
            }[how]()
            assert.equal(buffer.length, size)
            const pooled = size > 0 && size <= MAX_BLOCK_SIZE
            model.leases.push({ buffer, byte, pooled })
            model.allocCount++
            model.allocBytes += size
            if (!pooled) model.unpooledCount++
          }
        )
    )
  const release = fc.tuple(fc.nat(), fc.nat(), fc.nat()).map(
    ([which, start, end]) =>
      new Call(
        `release(${which}, ${start}, ${end})`,
        (model) => model.leases.length > 0,
        (model, pool) => {
          const lease = pick(model.leases, which)
          const { buffer } = lease
          pool.release(buffer.subarray(start % (buffer.length + 1), end % (buffer.length + 1)))
          model.leases.splice(model.leases.indexOf(lease), 1)
          model.releaseCount++
          // Without detaching, the same Buffer may be leased again.
          if (detaches) {
            assert.equal(buffer.length, 0)
            model.released.push(buffer)
          }
        }
      )
  )
  const releaseAgain = fc.nat().map(
    (which) =>
      new Call(
        `releaseAgain(${which})`,
        (model) => model.released.length > 0,
        (model, pool) => {
          const code = 'ERR_CISTERN_ALREADY_RELEASED'
          assert.throws(() => pool.release(pick(model.released, which)), { code })
        }
      )
  )
  const always = () => true
  const releaseForeign = fc.constant(
    new Call('releaseForeign()', always, (_, pool) => {
      const code = 'ERR_CISTERN_NOT_POOLED'
      assert.throws(() => pool.release(Buffer.alloc(10)), { code })
    })
  )
  const wrongSize = fc
    .oneof(fc.double({ max: -0.1, noNaN: true }), fc.constant(NaN), fc.string(), fc.bigInt())
    .map(
      (size) =>
        new Call(`allocUnsafe(${String(size)})`, always, (_, pool) => {
          assert.throws(() => pool.allocUnsafe(size), /"size"/)
        })
    )
  const trim = fc.integer({ min: 0, max: 50_000 }).map(
    (keep) =>
      new Call(`trim(${keep})`, always, (_, pool) => {
        pool.trim(keep)
        assert.ok(pool.stats().idleBytes <= keep)
      })
  )
  const close = fc.constant(
    new Call('close()', always, (model, pool) => {
      pool.close()
      model.closed = true
      assert.throws(() => pool.allocUnsafe(1), { code: 'ERR_CISTERN_CLOSED' })
    })
  )
  return fc.commands(
    [
      lease('allocUnsafe'),
      lease('allocUnsafe'),
      lease('alloc'),
      lease('lease'),
      release,
      release,
      releaseAgain,
      releaseForeign,
      wrongSize,
      trim,
      close
    ],
    { maxCommands: 60, size: 'max' }
  )
}

for (const { mode, options } of MODES) {
  test(`A pool agrees with its model, ${mode}`, async () => {
    const pools = []
    fc.assert(
      fc.property(calls(options.detachOnRelease !== false), (commands) => {
        const pool = new BufferPool({ ...options, maxBlockSize: MAX_BLOCK_SIZE })
        pools.push(pool)
        fc.modelRun(() => ({ model: new Model(), real: pool }), commands)
      }),
      { numRuns: 150 }
    )
    for (const pool of pools) await balanced(pool)
  })
}
