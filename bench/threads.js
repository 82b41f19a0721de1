'use strict'

/**
 * `npm run bench`: leases in one thread, and in two threads at once on one pool, each with its own
 * magazines. On two cores two threads should do nearly twice as much.
 *
 * It runs in rounds, so that both have the same noise. A loop without shared state shows the limit
 * of this machine's two cores.
 */

const { availableParallelism } = require('node:os')
const { once } = require('node:events')
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads')
const { BufferPool } = require('..')
const { median } = require('./median')

const ROUNDS = 7

/** The length of one measurement, in ms. */
const MEASURED = 300

const SIZE = 64 * 1024

/** Operations between two looks at the clock. */
const BATCH = 10_000

/** @param {BufferPool} pool */
function lease(pool) {
  for (let i = 0; i < BATCH; i++) {
    const buffer = pool.allocUnsafe(SIZE)
    buffer[0] = i
    pool.release(buffer)
  }
}

/** Runs integer arithmetic alone. */
function compute() {
  let x = 1
  for (let i = 0; i < 20 * BATCH; i++) x = (x * 31 + i) | 0
  return x
}

/**
 * Returns how often an operation runs, in batches per second.
 *
 * @param {() => void} operation
 */
function rate(operation) {
  const end = performance.now() + MEASURED
  const start = performance.now()
  let batches = 0
  while (performance.now() < end) {
    operation()
    batches++
  }
  return (batches / (performance.now() - start)) * 1000
}

/** Measures, in a worker, the operation that a message names, when the message arrives. */
function work() {
  const port = /** @type {import('node:worker_threads').MessagePort} */ (parentPort)
  const operations = operationsOf(workerData.map(BufferPool.attach))
  port.on('message', (name) => port.postMessage(rate(operations[name])))
}

/**
 * @param {BufferPool[]} pools
 * @returns {Record<string, () => void>}
 */
function operationsOf([reuse, detach]) {
  return {
    'detachOnRelease: false': () => lease(reuse),
    default: () => lease(detach),
    'arithmetic alone': compute
  }
}

async function main() {
  if (availableParallelism() < 2) {
    console.log('Two threads need two cores; this machine has one.')
    return
  }
  const pools = [new BufferPool({ detachOnRelease: false }), new BufferPool()]
  const worker = new Worker(__filename, { workerData: pools.map((pool) => pool.handle) })
  const operations = operationsOf(pools)
  console.log(
    `\nLeases of 64 KiB in two threads at once on one pool: Node ${process.version}, ${ROUNDS} rounds`
  )
  for (const [name, operation] of Object.entries(operations)) {
    const gains = []
    for (let round = 0; round < ROUNDS; round++) {
      const alone = rate(operation)
      worker.postMessage(name)
      const here = rate(operation)
      const [there] = await once(worker, 'message')
      gains.push((here + there) / alone)
    }
    const [low, high] = [Math.min(...gains), Math.max(...gains)].map((gain) => gain.toFixed(2))
    console.log(`${name}: ${median(gains).toFixed(2)} × one thread (${low} to ${high})`)
  }
  await worker.terminate()
}

if (isMainThread) main()
else work()
