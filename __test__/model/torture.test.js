'use strict'

const assert = require('node:assert/strict')
const { once } = require('node:events')
const path = require('node:path')
const { describe, test } = require('node:test')
const { Worker } = require('node:worker_threads')
const { BufferPool, shared } = require('../..')
const { MODES, balanced, collectUntil } = require('../support/helpers')
const { torture } = require('../support/torture')

/** Operations of all runs together; CISTERN_TORTURE sets another number. */
const OPERATIONS = Number(process.env.CISTERN_TORTURE ?? 10_000_000)

/** One share each for the modes in one thread, and one for each of two threads on one pool. */
const SHARE = Math.ceil(OPERATIONS / (MODES.length + 2))

/**
 * @param {BufferPool} pool
 * @param {Record<string, number>} counts
 */
async function assertSound(pool, counts) {
  for (const [operation, count] of Object.entries(counts)) {
    if (operation === 'stale' || operation === 'transfer') continue
    assert.ok(count > 0, `there was no ${operation}`)
  }
  await collectUntil(() => pool.stats().inUseCount === 0, 'every dropped lease is back')
  const stats = await balanced(pool)
  assert.equal(stats.quarantinedBytes, 0)
  assert.equal(stats.allocCount, stats.releaseCount + stats.collectedCount)
}

describe('no foreign byte', () => {
  for (const [seed, { mode, options }] of MODES.entries()) {
    test(`in ${SHARE} operations, ${mode}`, async () => {
      const pool = new BufferPool(options)
      const detaches = options.detachOnRelease !== false
      const counts = await torture(pool, { operations: SHARE, seed, detaches })
      await assertSound(pool, counts)
      assert.equal(counts.stale > 0, detaches)
    })
  }

  test(`in ${2 * SHARE} operations of two threads on one pool`, async () => {
    const worker = new Worker(
      `
      const { parentPort, workerData } = require('node:worker_threads')
      const { shared } = require(workerData.entry)
      const { torture } = require(workerData.torture)
      torture(shared, workerData).then((counts) => parentPort.postMessage(counts))
      `,
      {
        eval: true,
        workerData: {
          entry: path.join(__dirname, '..', '..'),
          torture: path.join(__dirname, '..', 'support', 'torture.js'),
          operations: SHARE,
          seed: 100,
          detaches: true
        }
      }
    )
    const exit = once(worker, 'exit')
    const [counts, [theirs]] = await Promise.all([
      torture(shared, { operations: SHARE, seed: 101, detaches: true }),
      once(worker, 'message')
    ])
    await exit
    assert.ok(counts.lease > 0 && theirs.lease > 0)
    await collectUntil(() => shared.stats().inUseCount === 0, 'every dropped lease is back')
    await balanced(shared)
  })
})
