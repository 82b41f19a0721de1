'use strict'

const { fork } = require('node:child_process')
const path = require('node:path')
const { Child } = require('./child')

const SERVER = path.join(__dirname, '../recorder/server.js')

/** A busy machine may be slow to start a process; a minute is a hang. */
const START_SECONDS = 20

/** A server answers between two requests; the longest request of any workload takes far less. */
const ANSWER_SECONDS = 20

/** To free everything and exit. */
const END_SECONDS = 10

/** The process under test, seen from the runner; `recorder/server.js` tells the protocol. */
class ServerProcess {
  #process
  #child
  #waiting = new Map()

  /**
   * @param {{ experiment: string, variant?: string, arm: string }} what
   * @param {import('./launch').Launch} launch
   * @param {AbortSignal} signal
   */
  constructor({ experiment, variant = '', arm }, launch, signal) {
    this.#process = fork(SERVER, [experiment, variant, arm], {
      execArgv: launch.flags,
      env: launch.env,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      signal,
      killSignal: 'SIGKILL'
    })
    this.#child = new Child(this.#process, 'the server')
    this.#process.on('message', (message) => this.#waiting.get(message.type)?.(message))
  }

  /** @returns {Promise<number>} the port on which it listens */
  async listening() {
    const { port } = await this.#child.until(this.#message('listening'), START_SECONDS, 'listen')
    return port
  }

  /** Opens the measured window. */
  startWindow() {
    this.#send('start')
  }

  /** @returns {Promise<object>} the metrics of the window, which this closes */
  async stopWindow() {
    const answer = this.#message('measured')
    this.#send('stop')
    const { metrics } = await this.#child.until(answer, ANSWER_SECONDS, 'report what it recorded')
    return metrics
  }

  /** Lets it free everything and exit: an arm that crashes there has failed. */
  async quit() {
    this.#send('quit')
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

  #message(type) {
    return new Promise((resolve) => this.#waiting.set(type, resolve))
  }

  #send(command) {
    // A failure to send means that the process has ended, which whoever waits for it will be told.
    this.#process.send(command, () => {})
  }
}

module.exports = { ServerProcess }
