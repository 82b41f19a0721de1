'use strict'

/**
 * Memory that user code marks, posts, or moves by ways of Node's own, also through stale views.
 *
 * No block ever has two owners, nothing crashes, and the totals balance.
 */

const assert = require('node:assert/strict')
const { once } = require('node:events')
const { describe, test } = require('node:test')
const { Worker } = require('node:worker_threads')
const { BufferPool, shared } = require('../..')
const { cacheOf } = require('../../lib/pool/buffer-pool')
const { SEGMENTS_GONE } = require('../../lib/cache/thread-counters')
const {
  balanced,
  collectUntil,
  external,
  marksHold,
  moves,
  posts,
  runScript,
  settle
} = require('../support/helpers')

describe('markAsUntransferable', () => {
  for (const turn of ['first', 'second']) {
    for (const last of ['pool.release(buffer)', 'pool.trim()', 'pool.close()', 'void 0']) {
      test(`at the ${turn} lease, then ${last}, does not abort the process`, () => {
        runScript(`
          const { markAsUntransferable } = require('node:worker_threads')
          for (const detachOnRelease of [true, false]) {
            const pool = new cistern.BufferPool({ detachOnRelease })
            if ('${turn}' === 'second') pool.release(pool.allocUnsafe(100))
            const buffer = pool.allocUnsafe(100)
            markAsUntransferable(buffer.buffer)
            if (!detachOnRelease) pool.release(buffer)
            try { ${last} } catch (error) {
              if (!error.code.startsWith('ERR_CISTERN_')) throw error
            }
          }
        `)
      })
    }
  }

  test('in a worker that is terminated does not abort the process', () => {
    const output = runScript(`
      const { Worker } = require('node:worker_threads')
      const worker = new Worker(
        'const { parentPort, markAsUntransferable, workerData } = require("node:worker_threads");' +
        'const { shared } = require(workerData); globalThis.kept = shared.allocUnsafe(100);' +
        'markAsUntransferable(kept.buffer); parentPort.postMessage(0); setInterval(() => {}, 1000)',
        { eval: true, workerData: ${JSON.stringify(require.resolve('../..'))} }
      )
      worker.once('message', async () => {
        await worker.terminate()
        console.log('alive')
      })
    `)
    assert.equal(output.trim(), 'alive')
  })

  test('does not cost the bytes of a Buffer that stays leased', { skip: !moves }, () => {
    const { markAsUntransferable } = require('node:worker_threads')
    const pool = new BufferPool({ zeroOnRelease: true })
    const buffer = pool.allocUnsafe(100).fill(7)
    markAsUntransferable(buffer.buffer)
    if (marksHold) {
      assert.throws(() => pool.release(buffer), { code: 'ERR_CISTERN_UNDETACHABLE' })
      assert.equal(buffer.length, 100)
      assert.ok(buffer.every((byte) => byte === 7))
    } else {
      pool.release(buffer)
      assert.equal(buffer.length, 0)
    }
  })
})

test('Memory that a byte stream has moved to another thread has one owner', async () => {
  const worker = new Worker(
    `
    const { parentPort, workerData } = require('node:worker_threads')
    const { shared } = require(workerData)
    let controller
    const stream = new ReadableStream({ type: 'bytes', start: (given) => { controller = given } })
    controller.enqueue(shared.allocUnsafe(100_000).fill(42))
    stream.getReader().read().then(({ value }) => {
      parentPort.postMessage(value.buffer, [value.buffer])
      setInterval(() => {}, 1000)
    })
    `,
    { eval: true, workerData: require.resolve('../..') }
  )
  const [memory] = await once(worker, 'message')
  await worker.terminate()
  const leases = Array.from({ length: 20 }, () => shared.allocUnsafe(100_000).fill(9))
  assert.ok(new Uint8Array(memory, 0, 100_000).every((byte) => byte === 42))
  for (const lease of leases) shared.release(lease)
  await balanced(shared)
})

test('An unpooled Buffer that was transferred says so', { skip: !moves }, () => {
  const pool = new BufferPool({ maxBlockSize: 64 })
  const buffer = pool.allocUnsafe(1000)
  const moved = buffer.buffer.transfer()
  assert.throws(() => pool.release(buffer), { code: 'ERR_CISTERN_DETACHED' })
  assert.equal(moved.byteLength, 1000)
  assert.equal(pool.stats().releaseCount, 0)
})

test('A block moved away through a stale view is not trimmed', { skip: !moves }, () => {
  const pool = new BufferPool({ detachOnRelease: false })
  const stale = pool.allocUnsafe(100).fill(5)
  pool.release(stale)
  const moved = stale.buffer.transfer()
  assert.equal(pool.trim(), 0)
  assert.equal(new Uint8Array(moved)[99], 5)
})

describe('Blocks that are moved away, through stale views, while they lie idle', () => {
  /**
   * Leases, releases and moves away `count` blocks, and more as room for them.
   *
   * @param {BufferPool} pool of which release detaches nothing
   * @param {number} count
   */
  function moveAway(pool, count) {
    const stale = Array.from({ length: count }, () => pool.allocUnsafe(64))
    for (const buffer of stale) pool.release(buffer)
    for (const { buffer } of stale) structuredClone(buffer, { transfer: [buffer] })
  }

  for (const [way, lease] of [
    ['allocUnsafe', (/** @type {BufferPool} */ pool) => pool.allocUnsafe(63)],
    ['lease', (/** @type {BufferPool} */ pool) => pool.lease(63).buffer],
    ['byteBuffer', (/** @type {BufferPool} */ pool) => pool.byteBuffer(64).append('x').view()]
  ]) {
    test(`are so many that ${way} would run out of stack`, async () => {
      const pool = new BufferPool({ detachOnRelease: false, idleTimeout: Infinity })
      moveAway(pool, 50_000)
      const buffer = lease(pool)
      assert.ok(buffer.length > 0)
      assert.equal(pool.stats().inUseCount, 1)
      pool.release(buffer)
      await balanced(pool)
    })
  }

  // A block that cannot be moved away still has its row.
  test('are forgotten when their rows are gone', { skip: !external || !posts }, async () => {
    const pool = new BufferPool({ detachOnRelease: false, idleTimeout: Infinity })
    const kept = pool.allocUnsafe(64)
    moveAway(pool, 1000)
    const { words } = cacheOf(pool)
    await collectUntil(() => words[SEGMENTS_GONE] > 0, 'rows have gone')
    // This thread only has idle slots without memory. An error in a later turn would end the
    // process.
    pool.trim()
    pool.close()
    await settle()
    pool.release(kept)
    await settle()
    const { inUseBytes, idleBytes } = await balanced(pool)
    assert.deepEqual([inUseBytes, idleBytes], [0, 0])
  })
})
