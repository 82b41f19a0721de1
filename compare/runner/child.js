'use strict'

const { describeEnd, RunError } = require('./run-error')

/** Enough of a child's output to hold an error and the top of its stack. */
const TAIL_CHARACTERS = 1200

/** Children that live: none may outlast this process, however it ends. */
const alive = new Set()
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL')
})

/** A child process with a deadline on everything that is waited for. */
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
    // A write to a process that has just ended shows in its end, too.
    process.stdin?.on('error', () => {})
    this.#ended = new Promise((resolve) => {
      process.on('error', (error) => resolve({ error }))
      process.once('close', (code, signal) => resolve({ code, signal }))
    })
    this.#ended.then(() => alive.delete(process))
  }

  /**
   * Waits, but neither for ever nor for a process that has ended.
   *
   * @template T
   * @param {Promise<T>} awaited
   * @param {number} seconds
   * @param {string} what completes "took longer than … s to …"
   * @returns {Promise<T>}
   */
  async until(awaited, seconds, what) {
    let timer
    const late = new Promise((_, reject) => {
      const told = `${this.#name} took longer than ${seconds} s to ${what}`
      timer = setTimeout(() => reject(this.failure(told)), seconds * 1e3)
    })
    const early = this.#ended.then((end) => {
      throw this.failure(`${this.#name} ended ${describeEnd(end)} instead of going on to ${what}`)
    })
    try {
      return await Promise.race([awaited, early, late])
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * Waits for the process to end well.
   *
   * @param {number} seconds
   */
  async end(seconds) {
    let timer
    const late = new Promise((_, reject) => {
      const told = `${this.#name} did not end within ${seconds} s`
      timer = setTimeout(() => reject(this.failure(told)), seconds * 1e3)
    })
    try {
      const end = await Promise.race([this.#ended, late])
      if (end.code !== 0) throw this.failure(`${this.#name} ended ${describeEnd(end)}`)
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

  /** Ends the process if it lives, and waits until it is gone. */
  async kill() {
    this.#process.kill('SIGKILL')
    await this.#ended
  }
}

module.exports = { Child }
