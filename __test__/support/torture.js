'use strict'

/**
 * Random leases, drops, releases, stale uses, transfers, trims and collections.
 *
 * Every lease is filled with its owner's mark, and every byte of it is looked at again before it
 * ends: a byte of another owner's fails the run.
 */

const assert = require('node:assert/strict')
const { setImmediate: turn } = require('node:timers/promises')

const MAX_SIZE = 256 * 1024

/** The most leases that are held at a time. */
const HELD = 100

/** The number of stale views, and of transferred ArrayBuffers, that are stored for misuse. */
const MISUSED = 20

/** A prime number of marks, so that no block gets the same one each time. */
const PATTERNS = Array.from({ length: 31 }, (_, mark) => Buffer.alloc(MAX_SIZE, mark + 1))

/**
 * Returns a repeatable source of numbers from 0 to below 1: mulberry32, by Tommy Ettinger.
 *
 * @param {number} seed
 */
function random(seed) {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * @param {import('../..').BufferPool} pool
 * @param {{ operations: number, seed: number, detaches: boolean }} options `detaches`: whether
 *   stale views are dead, so that using them harms nobody
 * @returns {Promise<Record<string, number>>} how often each operation came up
 */
async function torture(pool, { operations, seed, detaches }) {
  const next = random(seed)
  const below = (/** @type {number} */ limit) => Math.floor(next() * limit)
  /** @type {{ buffer: Buffer, mark: number }[]} */
  const held = []
  /** @type {Uint8Array[]} */
  const stale = []
  /** @type {{ bytes: Uint8Array, mark: number }[]} */
  const moved = []
  const counts = { lease: 0, release: 0, drop: 0, stale: 0, transfer: 0, trim: 0, collect: 0 }

  const check = (/** @type {Uint8Array} */ bytes, /** @type {number} */ mark) => {
    const pattern = PATTERNS[mark]
    if (pattern.compare(bytes, 0, bytes.length, 0, bytes.length) !== 0) {
      assert.fail(`a foreign byte in a block of ${bytes.length} bytes with seed ${seed}`)
    }
  }
  const takeAny = () => {
    const i = below(held.length)
    const lease = held[i]
    held[i] = held[held.length - 1]
    held.pop()
    check(lease.buffer, lease.mark)
    return lease
  }
  const keep = (/** @type {any[]} */ list, /** @type {any} */ item) => {
    if (list.length < MISUSED) list.push(item)
    else list[below(MISUSED)] = item
  }

  for (let i = 0; i < operations; i++) {
    const dice = next()
    if (held.length === 0 || (dice < 0.49 && held.length < HELD)) {
      counts.lease++
      // Most sizes are small, and from time to time there is one of a quarter MiB.
      const size = 1 + below(next() < 0.002 ? MAX_SIZE : next() < 0.1 ? 16_384 : 1500)
      const mark = below(PATTERNS.length)
      const zero = next() < 0.05
      const buffer = zero ? pool.alloc(size) : pool.allocUnsafe(size)
      if (buffer.length !== size) assert.fail(`${buffer.length} bytes instead of ${size}`)
      if (zero && buffer.some((byte) => byte !== 0)) assert.fail('alloc() gave a used byte')
      buffer.fill(mark + 1)
      held.push({ buffer, mark })
    } else if (dice < 0.97) {
      counts.release++
      const { buffer } = takeAny()
      const view = next() < 0.2 ? buffer.subarray(below(buffer.length)) : buffer
      pool.release(view)
      if (detaches && next() < 0.1) keep(stale, view)
    } else if (dice < 0.985) {
      counts.drop++
      takeAny()
    } else if (dice < 0.997 && stale.length > 0) {
      counts.stale++
      const view = stale[below(stale.length)]
      view[0] = 255
      view[view.length - 1] = 255
      if (view[0] !== undefined) assert.fail('a stale view can be read')
      assert.throws(() => pool.release(view), { code: 'ERR_CISTERN_ALREADY_RELEASED' })
    } else if (dice < 0.999 && 'transfer' in ArrayBuffer.prototype) {
      counts.transfer++
      const { buffer, mark } = takeAny()
      const { length } = buffer
      keep(moved, { bytes: new Uint8Array(buffer.buffer.transfer(), 0, length), mark })
    } else if (dice < 0.9995) {
      counts.trim++
      pool.trim(below(8 * MAX_SIZE))
    }
    if (i % 1000 === 999) {
      for (const { bytes, mark } of moved) check(bytes, mark)
      await turn()
    }
    if (i % 50_000 === 49_999 || i === operations - 1) {
      counts.collect++
      globalThis.gc?.()
      await turn()
    }
  }
  while (held.length > 0) pool.release(takeAny().buffer)
  for (const { bytes, mark } of moved) check(bytes, mark)
  return counts
}

module.exports = { random, torture }
