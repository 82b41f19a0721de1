'use strict'

const { createInterface } = require('node:readline')

/** A program's output ends a moment before the program does. */
const END_SECONDS = 10

/** Reads the lines that a program prints, one at a time, with a deadline on each. */
class Lines {
  #child
  #lines
  #name

  /**
   * @param {import('node:child_process').ChildProcess} process
   * @param {import('./child').Child} child of the same process
   * @param {string} name for messages
   */
  constructor(process, child, name) {
    this.#child = child
    this.#name = name
    this.#lines = createInterface({ input: process.stdout })[Symbol.asyncIterator]()
  }

  /**
   * @param {number} seconds
   * @param {string} what completes "took longer than … s to …"
   * @returns {Promise<string>}
   */
  async next(seconds, what) {
    const { value, done } = await this.#child.until(this.#read(), seconds, what)
    if (done) {
      throw this.#child.failure(`${this.#name} ended its output instead of going on to ${what}`)
    }
    return value
  }

  async #read() {
    const line = await this.#lines.next()
    // The way in which the process ended says more than the end of its output.
    if (line.done) await this.#child.end(END_SECONDS)
    return line
  }
}

module.exports = { Lines }
