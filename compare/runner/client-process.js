'use strict'

const { spawn } = require('node:child_process')
const { Child } = require('./child')
const { Lines } = require('./lines')
const { LONGEST_WINDOW } = require('./plan')

/** Time for the client beyond its warm-up and its window. */
const GRACE_SECONDS = 10

const NAME = 'the load client'

/**
 * @typedef {object} Load the figures that the client measured, see `client/src/tally.rs`
 * @property {number} requests
 * @property {number} bytes
 * @property {number} errors
 * @property {number} seconds
 * @property {number} latencyP50Ms
 * @property {number} latencyP99Ms
 * @property {number} cpuSeconds
 */

/** Controls the load client, which prints `warm` after its warm-up, then one line of JSON. */
class ClientProcess {
  #process
  #child
  #lines
  #timing

  /**
   * @param {string} binary
   * @param {number} port
   * @param {import('./plan').Timing & { sizes?: number[] }} timing and the sizes to request
   * @param {AbortSignal} signal
   */
  constructor(binary, port, timing, signal) {
    this.#timing = timing
    const args = [
      `127.0.0.1:${port}`,
      ...['--connections', timing.connections],
      ...['--warmup', timing.warmupSeconds],
      ...['--duration', timing.durationSeconds],
      ...['--requests', timing.leastRequests ?? 0],
      ...(timing.sizes ? ['--sizes', timing.sizes] : []),
      // The load must last until the server has closed its own window.
      '--until-stdin-closes'
    ]
    this.#process = spawn(binary, args.map(String), {
      stdio: ['pipe', 'pipe', 'pipe'],
      signal,
      killSignal: 'SIGKILL'
    })
    this.#child = new Child(this.#process, NAME)
    this.#lines = new Lines(this.#process, this.#child, NAME)
  }

  /** Resolves when the warm-up is over. */
  async warm() {
    await this.#lines.next(this.#timing.warmupSeconds + GRACE_SECONDS, 'warm up')
  }

  /** @returns {Promise<Load>} */
  async load() {
    const seconds = this.#timing.durationSeconds * LONGEST_WINDOW + GRACE_SECONDS
    return JSON.parse(await this.#lines.next(seconds, 'measure'))
  }

  /** Kills the client. */
  kill() {
    return this.#child.kill()
  }
}

module.exports = { ClientProcess }
