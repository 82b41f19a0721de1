'use strict'

/** Threads that use one pool together. */

const { Thread } = require('./thread')

/** Has a seeded source of random numbers, which threads can load as well. */
const TORTURE = require.resolve('./torture')

/**
 * Threads that are attached to a pool, and ended after the test. Each has on its `self` the list `held`,
 * the function `random`, `turn`, which lets the thread's event loop turn, and `settle`, after which it
 * has heard of all that others had asked of it before.
 *
 * @param {import('node:test').TestContext} context
 * @param {import('../..').BufferPool} pool
 * @param {number} [count]
 */
async function crew(context, pool, count = 1) {
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

module.exports = { crew }
