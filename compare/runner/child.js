'use strict'

const { describeEnd, RunError } = require('./run-error')

/** A busy machine may start a process slowly, but after a minute it hangs. */
const START_SECONDS = 60

/** The end of a child's output: an error and the top of its stack fit. */
const TAIL_CHARACTERS = 1200

/** Running children. None may outlive this process, however it ends. */
const alive = new Set()
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL')
})

/** Wraps a child process, with a deadline on every wait. */
class Child {
  #process
  #name
  #output = ''
  #ended

  /**
   * @param {import('node:child_process').ChildProcess} process
   * @param {string} name for messages
   */
  constructor(process, name) {
    this.#process = process
    this.#name = name
    alive.add(process)
    for (const stream of [process.stdout, process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text) => {
        this.#output = (this.#output + text).slice(-TAIL_CHARACTERS)
      })
    }
    // A write to a process that has just ended fails; `#ended` reports that end.
    process.stdin?.on('error', () => {})
    this.#ended = new Promise((resolve) => {
      process.on('error', (error) => resolve({ error }))
      process.once('close', (code, signal) => resolve({ code, signal }))
    })
    this.#ended.then(() => alive.delete(process))
  }

  /**
   * Waits until the promise settles, the time is over or the process has ended.
   *
   * @template T
   * @param {Promise<T>} awaited
   * @param {number} seconds
   * @param {string} what completes "took longer than … s to …"
   * @returns {Promise<T>}
   */
  until(awaited, seconds, what) {
    const early = this.#ended.then((end) => {
      throw this.failure(`${this.#name} ended ${describeEnd(end)} instead of going on to ${what}`)
    })
    const told = `${this.#name} took longer than ${seconds} s to ${what}`
    return this.#within(Promise.race([awaited, early]), seconds, told)
  }

  /**
   * Waits for the process to exit with code 0.
   *
   * @param {number} seconds
   */
  async end(seconds) {
    const told = `${this.#name} did not end within ${seconds} s`
    const end = await this.#within(this.#ended, seconds, told)
    if (end.code !== 0) throw this.failure(`${this.#name} ended ${describeEnd(end)}`)
  }

  /**
   * @template T
   * @param {Promise<T>} awaited
   * @param {number} seconds
   * @param {string} told the message of the error when they are over
   * @returns {Promise<T>}
   */
  async #within(awaited, seconds, told) {
    let timer
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(this.failure(told)), seconds * 1e3)
    })
    try {
      return await Promise.race([awaited, late])
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * @param {string} message
   * @returns {RunError} with the tail of the output
   */
  failure(message) {
    return new RunError(message, this.#output)
  }

  /** Kills the process if it runs, and waits until it has ended. */
  async kill() {
    this.#process.kill('SIGKILL')
    await this.#ended
  }
}

module.exports = { Child, START_SECONDS }
