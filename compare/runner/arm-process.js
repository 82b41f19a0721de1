'use strict'

const { fork } = require('node:child_process')
const path = require('node:path')
const { Child } = require('./child')

const RECORDER = path.join(__dirname, '../recorder')

/** The time that the process has to free everything and exit. */
const END_SECONDS = 10

/** Controls a process under test. The files in `recorder/` describe the protocols. */
class ArmProcess {
  #process
  #child
  #waiting = new Map()

  /**
   * @param {'server' | 'loop'} script of `recorder/`
   * @param {import('../recorder/subject').Spec} spec
   * @param {import('./launch').Launch} launch
   * @param {AbortSignal} signal
   */
  constructor(script, spec, launch, signal) {
    this.#process = fork(path.join(RECORDER, `${script}.js`), [JSON.stringify(spec)], {
      execArgv: launch.flags,
      env: launch.env,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      signal,
      killSignal: 'SIGKILL'
    })
    this.#child = new Child(this.#process, `the ${script}`)
    this.#process.on('message', (message) => this.#waiting.get(message.type)?.(message))
  }

  get pid() {
    return this.#process.pid
  }

  /**
   * Waits for a message. Call it before the command that causes the message, and it can't miss
   * that.
   *
   * @param {string} type
   * @param {number} seconds
   * @param {string} what completes "took longer than … s to …"
   * @returns {Promise<object>}
   */
  message(type, seconds, what) {
    const told = new Promise((resolve) => this.#waiting.set(type, resolve))
    return this.#child.until(told, seconds, what)
  }

  /** @param {string} command */
  send(command) {
    // If sending fails, the process has ended, and every pending wait rejects with that.
    this.#process.send(command, () => {})
  }

  /** Makes the process free everything and exit. An arm that crashes there has failed. */
  async quit() {
    this.send('quit')
    await this.#child.end(END_SECONDS)
  }

  /** Returns the error that {@link Child.failure} makes. */
  failure(message) {
    return this.#child.failure(message)
  }

  /** Kills the process. */
  kill() {
    return this.#child.kill()
  }
}

module.exports = { ArmProcess }
