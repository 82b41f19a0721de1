'use strict'

/**
 * Shared by the tests of waiters: ways to fill a pool, to watch a promise, and the queue of waiters
 * as it should be.
 */

const assert = require('node:assert/strict')
const { setImmediate: turn } = require('node:timers/promises')
const fc = require('fast-check')
const { blockSizes, classOf } = require('../../lib/cache/size-class')
const { Call } = require('./model/call')
const { givesAtOnce, roomFor, settle } = require('./helpers')

const KIB = 1024
const MIB = 1024 * KIB

const ABORTED = { name: 'AbortError', code: 'ABORT_ERR' }
const CLOSED = { name: 'Error', code: 'ERR_CISTERN_CLOSED' }
const EXHAUSTED = { name: 'RangeError', code: 'ERR_CISTERN_EXHAUSTED' }

/** The limit of a test whose waiter is never served, in milliseconds. */
const LIMIT = { timeout: 120_000 }

/** Returns the bytes that a lease of a size takes. */
const blockOf = (/** @type {number} */ size) => blockSizes[classOf(size)]

/**
 * Watches the outcome of a promise.
 *
 * @template T
 * @param {Promise<T>} promise
 */
function watch(promise) {
  /** @type {{ state: 'pending' | 'resolved' | 'rejected', value?: T, error?: any, promise: Promise<T> }} */
  const watched = { state: 'pending', promise }
  promise.then(
    (value) => Object.assign(watched, { state: 'resolved', value }),
    (error) => Object.assign(watched, { state: 'rejected', error })
  )
  return watched
}

/** Settles the promises that can without a turn of the event loop. */
async function microtasks() {
  for (let i = 0; i < 10; i++) await null
}

/** Waits until blocks that this thread released have reached the waiters. */
const handedOn = givesAtOnce ? microtasks : settle

/**
 * Leases blocks of 64 KiB until the ceiling is reached.
 *
 * @param {BufferPool} pool that has nothing leased
 */
function fill(pool) {
  const count = pool.stats().maxBytes / (64 * KIB)
  return Array.from({ length: count }, () => pool.allocUnsafe(64 * KIB))
}

/**
 * @param {BufferPool} pool
 * @param {Iterable<Buffer>} buffers
 */
function releaseAll(pool, buffers) {
  for (const buffer of buffers) pool.release(buffer)
}

/**
 * The queue of waiters as it should be: its first waiter is served once its block fits, and no
 * other.
 */
class WaiterQueue {
  /** @type {{ id: number, bytes: number }[]} */
  #waiting = []

  /** @param {number} free in bytes */
  constructor(free) {
    this.free = free
  }

  get length() {
    return this.#waiting.length
  }

  /** Adds a waiter. Returns the waiters that are served then. */
  join(/** @type {number} */ id, /** @type {number} */ size) {
    this.#waiting.push({ id, bytes: blockOf(size) })
    return this.#serve()
  }

  /** Removes a waiter that was not served. */
  leave(/** @type {number} */ id) {
    this.#waiting = this.#waiting.filter((waiter) => waiter.id !== id)
    return this.#serve()
  }

  /** Returns a block. */
  giveBack(/** @type {number} */ size) {
    this.free += blockOf(size)
    return this.#serve()
  }

  #serve() {
    const served = []
    while (this.#waiting.length > 0 && this.#waiting[0].bytes <= this.free) {
      const { id, bytes } = /** @type {{ id: number, bytes: number }} */ (this.#waiting.shift())
      this.free -= bytes
      served.push(id)
    }
    return served
  }
}

/** One thread's waits and what should become of them, for fast-check. */
class Model {
  line = new WaiterQueue(Model.CEILING)
  /** @type {Map<number, { size: number, watched: ReturnType<typeof watch>, abort: () => void }>} */
  waiting = new Map()
  /** @type {{ buffer: Buffer, size: number, byte: number }[]} */
  held = []
  lastId = 0
  waitCount = 0
  isClosed = false

  static CEILING = 64 * KIB

  /** Asserts that the waiters which should be served by now are served, and no others. */
  async serves(/** @type {number[]} */ ids) {
    await handedOn()
    for (const id of ids) {
      const { size, watched } = this.waiting.get(id)
      this.waiting.delete(id)
      assert.equal(watched.state, 'resolved', `the wait for ${size} bytes should be over`)
      assert.equal(watched.value.length, size)
      this.hold(watched.value, size)
    }
    for (const { size, watched } of this.waiting.values()) {
      assert.equal(watched.state, 'pending', `the wait for ${size} bytes should go on`)
    }
  }

  hold(/** @type {Buffer} */ buffer, /** @type {number} */ size) {
    const byte = (this.lastId * 37) % 256
    this.held.push({ buffer: buffer.fill(byte), size, byte })
  }

  agreesWith(/** @type {BufferPool} */ pool) {
    const { inUseBytes, idleBytes, quarantinedBytes, waitCount, inUseCount } = pool.stats()
    assert.equal(inUseCount, this.held.length)
    assert.equal(inUseBytes, Model.CEILING - this.line.free)
    if (givesAtOnce) assert.equal(waitCount, this.waitCount)
    else assert.ok(waitCount >= this.waitCount, 'who is served by what is idle may have waited')
    assert.ok(inUseBytes + idleBytes + quarantinedBytes <= Model.CEILING)
    for (const { buffer, byte } of this.held) {
      assert.ok(pool.owns(buffer))
      assert.ok(
        buffer.every((value) => value === byte),
        'a foreign byte'
      )
    }
  }
}

function calls() {
  const size = fc.oneof(
    fc.integer({ min: 1, max: 8 * KIB }),
    fc.integer({ min: 1, max: Model.CEILING + 1000 })
  )
  const acquire = size.map(
    (size) =>
      new Call(
        `acquire(${size})`,
        () => true,
        async (model, pool) => {
          const controller = new AbortController()
          const watched = watch(pool.acquire(size, { signal: controller.signal }))
          if (model.isClosed || blockOf(size) > Model.CEILING) {
            const { code } = model.isClosed ? CLOSED : EXHAUSTED
            await microtasks()
            assert.equal(watched.error?.code, code)
            return
          }
          const id = ++model.lastId
          model.waiting.set(id, { size, watched, abort: () => controller.abort() })
          const served = model.line.join(id, size)
          if (served.length === 0) model.waitCount++
          await model.serves(served)
        }
      )
  )
  const alloc = size.map(
    (size) =>
      new Call(
        `alloc(${size})`,
        () => true,
        async (model, pool) => {
          const hasRoom = model.line.length === 0 && blockOf(size) <= model.line.free
          if (model.isClosed || !hasRoom) {
            assert.throws(() => pool.alloc(size), model.isClosed ? CLOSED : EXHAUSTED)
            return
          }
          model.line.free -= blockOf(size)
          model.hold(await roomFor(() => pool.alloc(size)), size)
        }
      )
  )
  const release = fc.nat().map(
    (which) =>
      new Call(
        `release(${which})`,
        (model) => model.held.length > 0,
        async (model, pool) => {
          const [{ buffer, size }] = model.held.splice(which % model.held.length, 1)
          pool.release(buffer)
          await model.serves(model.line.giveBack(size))
        }
      )
  )
  const abort = fc.nat().map(
    (which) =>
      new Call(
        `abort(${which})`,
        (model) => model.waiting.size > 0,
        async (model) => {
          const ids = [...model.waiting.keys()]
          const id = ids[which % ids.length]
          const { watched, abort } = model.waiting.get(id)
          model.waiting.delete(id)
          abort()
          await model.serves(model.line.leave(id))
          assert.equal(watched.error?.name, 'AbortError')
        }
      )
  )
  const trim = fc.constant(
    new Call(
      'trim()',
      () => true,
      async (model, pool) => {
        pool.trim()
        await model.serves([])
      }
    )
  )
  const yielding = fc.constant(
    new Call(
      'turn()',
      () => true,
      async (model) => {
        await turn()
        await model.serves([])
      }
    )
  )
  const close = fc.constant(
    new Call(
      'close()',
      () => true,
      async (model, pool) => {
        pool.close()
        model.isClosed = true
        await microtasks()
        for (const { watched } of model.waiting.values()) {
          assert.equal(watched.error?.code, CLOSED.code)
        }
        model.waiting.clear()
        model.line = new WaiterQueue(model.line.free)
      }
    )
  )
  // Closing the pool ends the interesting part of a run, so it is rare.
  const often = [acquire, acquire, acquire, alloc, release, release, release, abort, trim, yielding]
  return fc.commands([...often, ...often, ...often, close], { maxCommands: 80, size: 'max' })
}

module.exports = {
  ABORTED,
  CLOSED,
  EXHAUSTED,
  KIB,
  LIMIT,
  MIB,
  calls,
  fill,
  handedOn,
  WaiterQueue,
  microtasks,
  Model,
  releaseAll,
  watch
}
