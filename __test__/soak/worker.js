'use strict'

/**
 * A thread of the soak: leases, fills, checks, releases, drops, posts and waits, until it is ended
 * from outside or ends itself.
 */

const { setImmediate: turn } = require('node:timers/promises')
const { parentPort, workerData } = require('node:worker_threads')
const { BufferPool } = require('../..')
const { anySize, below, check, mark } = require('./marks')

/** The most leases that it holds. */
const HELD = 50

/** The most Buffers that may be on their way to the main thread. */
const POSTED = 20

const pool = BufferPool.attach(workerData.handle)
/** @type {{ buffer: Buffer, seed: number }[]} */
const held = []
let seed = workerData.number << 16
let posted = 0

parentPort?.on('message', () => posted--)

async function work() {
  for (let steps = below(2000); steps > 0; steps--) {
    for (let i = 0; i < 10; i++) unlessExhausted(step)
    if (below(20) === 0) await wait()
    await turn()
  }
  if (below(2) === 0) process.exit()
  throw new Error('on purpose')
}

/** @param {() => void} act */
function unlessExhausted(act) {
  try {
    act()
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ERR_CISTERN_EXHAUSTED') throw error
  }
}

function step() {
  const buffer = mark(pool.allocUnsafe(anySize()), ++seed)
  const fate = below(10)
  if (fate < 5) {
    held.push({ buffer, seed })
  } else if (fate < 7) {
    pool.release(buffer)
  } else if (fate < 9 && posted < POSTED) {
    posted++
    parentPort?.postMessage({ buffer, seed }, [/** @type {ArrayBuffer} */ (buffer.buffer)])
  }
  // Otherwise the lease is dropped.
  if (held.length > HELD) {
    const [{ buffer, seed }] = held.splice(below(held.length), 1)
    check(buffer, seed)
    pool.release(buffer)
  }
  const bytes = pool.byteBuffer()
  try {
    bytes.append('soak').append(Buffer.alloc(below(5000)))
  } finally {
    if (below(4) > 0) bytes.release()
  }
}

/** Waits in the queue of waiters, as long as it takes or for a moment only. */
async function wait() {
  const signal = below(2) > 0 ? AbortSignal.timeout(below(20)) : undefined
  await pool.acquire(anySize(), { signal }).then(
    (buffer) => pool.release(buffer),
    (error) => {
      if (error.name !== 'AbortError') throw error
    }
  )
}

work()
