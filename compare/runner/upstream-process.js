'use strict'

const { spawn } = require('node:child_process')
const { Child, START_SECONDS } = require('./child')
const { Lines } = require('./lines')

const NAME = 'the upstream server'

/** Controls the server of bytes in `client/`, or with `--forward` a proxy in the same program. */
class UpstreamProcess {
  #process
  #child
  #lines

  /**
   * @param {string} program
   * @param {string[]} args
   * @param {AbortSignal} signal
   * @param {Record<string, string>} [env] on top of this process's own
   */
  constructor(program, args, signal, env = {}) {
    this.#process = spawn(program, args, {
      // The server ends when its input does, so it can't outlive this process.
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
      signal,
      killSignal: 'SIGKILL'
    })
    this.#child = new Child(this.#process, NAME)
    this.#lines = new Lines(this.#process, this.#child, NAME)
  }

  get pid() {
    return this.#process.pid
  }

  /** @returns {Promise<number>} the port on which it listens */
  async listening() {
    return Number(await this.#lines.next(START_SECONDS, 'listen'))
  }

  kill() {
    return this.#child.kill()
  }
}

module.exports = { UpstreamProcess }
