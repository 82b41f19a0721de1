'use strict'

/** A worker that runs a test's tasks, step by step. */

const path = require('node:path')
const { Worker } = require('node:worker_threads')

const ENTRY = JSON.stringify(path.join(__dirname, '..', '..'))

/** Runs in the worker: each task as a function of the same `self`, on which it may keep things. */
const SOURCE = `
  'use strict'
  const threads = require('node:worker_threads')
  const { parentPort, workerData } = threads
  const { BufferPool, shared } = require(${ENTRY})
  const { handle } = workerData
  const self = { BufferPool, require, shared, threads, transfer: [] }
  if (handle !== undefined) self.pool = BufferPool.attach(handle)
  parentPort.on('message', async ({ id, task, data }) => {
    let answer
    try {
      answer = { id, value: await (0, eval)('(' + task + ')')(self, data) }
    } catch ({ name, code, message }) {
      answer = { id, error: { name, code, message } }
    }
    parentPort.postMessage(answer, self.transfer.splice(0))
  })
`

/**
 * The tools of a task.
 *
 * @typedef {object} Self
 * @property {typeof import('../..').BufferPool} BufferPool
 * @property {import('../..').BufferPool} shared
 * @property {import('../..').BufferPool} pool by the handle that the thread was given
 * @property {NodeRequire} require
 * @property {typeof import('node:worker_threads')} threads
 * @property {import('node:worker_threads').TransferListItem[]} transfer goes with the answer
 */

/** A worker of this thread's, and the tasks that it has not answered yet. */
class Thread {
  #worker
  #lastId = 0
  #tasks = new Map()

  /**
   * @param {import('../..').PoolHandle} [handle] of the pool that it attaches to
   */
  constructor(handle) {
    this.#worker = new Worker(SOURCE, { eval: true, workerData: { handle } })
    this.#worker.on('message', ({ id, value, error }) => {
      // There is no task if the thread has died meanwhile.
      const task = this.#tasks.get(id)
      this.#tasks.delete(id)
      if (error === undefined) task?.resolve(value)
      else task?.reject(Object.assign(new Error(error.message), error))
    })
    this.#worker.on('error', (error) => this.#rejectAll(error))
    /** Settles when the thread has ended. */
    this.ended = new Promise((resolve) => {
      this.#worker.once('exit', (code) => {
        this.#rejectAll(new Error(`the thread has ended with ${code}`))
        resolve(code)
      })
    })
  }

  /**
   * Makes the thread run a task. The task is sent as text: it sees `self` and `data`, and nothing
   * else of this file.
   *
   * @param {(self: any, data: any) => unknown} task
   * @param {unknown} [data]
   * @param {import('node:worker_threads').TransferListItem[]} [transfer]
   * @returns {Promise<any>} what it returns, or throws
   */
  run(task, data, transfer) {
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      this.#tasks.set(id, { resolve, reject })
      this.#worker.postMessage({ id, task: String(task), data }, transfer)
    })
  }

  /** Makes the thread collect its garbage, and run the finalizers that are due then. */
  collect() {
    return this.run(async () => {
      globalThis.gc()
      for (let i = 0; i < 5; i++) await new Promise(setImmediate)
    })
  }

  /** Ends the thread wherever it is. */
  async terminate() {
    await this.#worker.terminate()
  }

  /** @param {Error} error */
  #rejectAll(error) {
    for (const { reject } of this.#tasks.values()) reject(error)
    this.#tasks.clear()
  }
}

module.exports = { Thread }
