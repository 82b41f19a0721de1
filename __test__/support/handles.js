'use strict'

/** Shared by the tests of handles: threads, and pools that are gone. */

const { after } = require('node:test')
const { BufferPool } = require('../..')
const { eventually } = require('./helpers')
const { Thread } = require('./thread')

const STALE = 'its pool is gone: no thread has it any more'

/** @param {string} reason */
const invalid = (reason) => ({
  name: 'TypeError',
  code: 'ERR_CISTERN_INVALID_HANDLE',
  message: new RegExp(`^The "handle" argument .*: ${reason}\\. Received`)
})

/** @type {Set<Thread>} */
const threads = new Set()

/**
 * Starts a thread that ends with this file, if not before.
 *
 * @param {import('../..').PoolHandle} [handle]
 */
function startThread(handle) {
  const thread = new Thread(handle)
  threads.add(thread)
  return thread
}

after(() => Promise.all([...threads].map((thread) => thread.terminate())))

/**
 * Returns the handle of a pool that this thread has dropped.
 *
 * @param {(pool: BufferPool) => unknown} [use] before it does
 */
async function handleOfDropped(use = () => {}) {
  // This is a function of its own: a suspended one keeps the values alive that it has passed on.
  const drop = () => {
    const pool = new BufferPool()
    return { handle: pool.handle, witness: new WeakRef(pool), used: use(pool) }
  }
  const { handle, witness, used } = drop()
  await used
  await eventually(() => witness.deref() === undefined, 'the pool is collected')
  return handle
}

/**
 * Waits until a handle's pool is gone.
 *
 * @param {import('../..').PoolHandle} handle
 */
async function gone(handle) {
  await eventually(() => {
    try {
      // Dropped again at once.
      BufferPool.attach(handle)
    } catch {
      return true
    }
    return false
  }, 'the pool is gone')
}

module.exports = { STALE, gone, handleOfDropped, invalid, startThread }
