'use strict'

/** Threads that use one pool together. */

const { Thread } = require('./thread')

/** Has a seeded source of random numbers, which threads can load as well. */
const TORTURE = require.resolve('./torture')

/**
 * Starts threads that are attached to a pool, and terminates them after the test. Each has on its
 * `self` the list `held`, the function `random`, and `turn`, which waits for an event-loop turn.
 * After its `settle`, the thread has handled all earlier requests of others.
 *
 * @param {import('node:test').TestContext} context
 * @param {import('../..').BufferPool} pool
 * @param {number} [count]
 */
async function attachThreads(context, pool, count = 1) {
  const threads = Array.from({ length: count }, () => new Thread(pool.handle))
  context.after(() => Promise.all(threads.map((thread) => thread.terminate())))
  const prepare = (self, file) => {
    self.held = []
    self.random = require(file).random
    self.turn = () => new Promise((resolve) => setImmediate(resolve))
    self.settle = async () => {
      for (let i = 0; i < 5; i++) await self.turn()
    }
  }
  await Promise.all(threads.map((thread) => thread.run(prepare, TORTURE)))
  return threads
}

module.exports = { attachThreads }
