'use strict'

const { spawn } = require('node:child_process')
const { createInterface } = require('node:readline')
const { Child } = require('./child')

/** Beyond the time that it was told to take. */
const GRACE_SECONDS = 10

/**
 * @typedef {object} Load what the client measured, see `client/src/tally.rs`
 * @property {number} requests
 * @property {number} errors
 * @property {number} seconds
 * @property {number} latencyP50Ms
 * @property {number} latencyP99Ms
 * @property {number} cpuSeconds
 */

/** The load client, seen from the runner: `warm` when the warm-up is over, then one line of JSON. */
class ClientProcess {
  #process
  #child
  #lines
  #timing

  /**
   * @param {string} binary
   * @param {number} port
   * @param {import('./plan').Timing} timing
   * @param {AbortSignal} signal
   */
  constructor(binary, port, timing, signal) {
    this.#timing = timing
    const args = [
      `127.0.0.1:${port}`,
      ...['--connections', timing.connections],
      ...['--warmup', timing.warmupSeconds],
      ...['--duration', timing.durationSeconds],
      // The load must last until the server has closed its own window.
      '--until-stdin-closes'
    ]
    this.#process = spawn(binary, args.map(String), {
      stdio: ['pipe', 'pipe', 'pipe'],
      signal,
      killSignal: 'SIGKILL'
    })
    this.#child = new Child(this.#process, 'the load client')
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]()
  }

  /** Resolves when the warm-up is over. */
  async warm() {
    await this.#line(this.#timing.warmupSeconds + GRACE_SECONDS, 'warm up')
  }

  /** @returns {Promise<Load>} */
  async load() {
    return JSON.parse(await this.#line(this.#timing.durationSeconds + GRACE_SECONDS, 'measure'))
  }

  /** Ends it, whatever it does. */
  kill() {
    return this.#child.kill()
  }

  async #line(seconds, what) {
    const { value, done } = await this.#child.until(this.#nextLine(), seconds, what)
    if (done)
      throw this.#child.failure(`the load client fell silent instead of going on to ${what}`)
    return value
  }

  async #nextLine() {
    const line = await this.#lines.next()
    // Its output ends a moment before the process does, and that end tells more.
    if (line.done) await this.#child.end(GRACE_SECONDS)
    return line
  }
}

module.exports = { ClientProcess }
