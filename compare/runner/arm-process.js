'use strict'

const { fork } = require('node:child_process')
const path = require('node:path')
const { Child } = require('./child')

const RECORDER = path.join(__dirname, '../recorder')

/** To free everything and exit. */
const END_SECONDS = 10

/** The process under test, seen from the runner; the files in `recorder/` tell the protocols. */
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
   * Waits for a message, which nothing that is sent after this call can make it miss.
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
    // A failure to send means that the process has ended, which whoever waits for it will be told.
    this.#process.send(command, () => {})
  }

  /** Lets it free everything and exit: an arm that crashes there has failed. */
  async quit() {
    this.send('quit')
    await this.#child.end(END_SECONDS)
  }

  /** As {@link Child.failure}. */
  failure(message) {
    return this.#child.failure(message)
  }

  /** Ends it, whatever it does. */
  kill() {
    return this.#child.kill()
  }
}

module.exports = { ArmProcess }
