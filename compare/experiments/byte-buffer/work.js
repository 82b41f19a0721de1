'use strict'

const { performance } = require('node:perf_hooks')
const { collectGarbage } = require('./collect-garbage')

/**
 * @typedef {object} Plan of the work; the Go program reads the same
 * @property {number} together buffers that are open at a time
 * @property {number} bytes that each gets
 * @property {number} [largeBytes] that one of `largeEvery` gets instead
 * @property {number} [largeEvery]
 */

/** Gets buffers, writes to them, reads their lengths and puts them back. */
class Work {
  #arm
  #plan
  #data
  #large
  #open = []
  #done = 0
  #total = 0
  #since = performance.now()

  /**
   * @param {import('./arms').OpenArm} arm
   * @param {Plan} plan
   */
  constructor(arm, plan) {
    this.#arm = arm
    this.#plan = plan
    this.#data = Buffer.alloc(plan.bytes, 'log')
    this.#large = Buffer.alloc(plan.largeBytes ?? 0, 'log')
  }

  /**
   * @param {number} count of buffers
   * @returns {number} bytes that were written
   */
  operate(count) {
    const before = this.#total
    for (let done = 0; done < count; done++) {
      this.#fillOne()
      if (this.#open.length === this.#plan.together) this.#putAll()
    }
    return this.#total - before
  }

  /** Returns the bytes held when none of the buffers is in use, and when all are. */
  async figures() {
    const freshBytesPerSecond = this.#freshBytesPerSecond()
    this.#putAll()
    await collectGarbage()
    const heldEmptyBytes = this.#arm.held()
    while (this.#open.length < this.#plan.together) this.#fillOne()
    await collectGarbage()
    const heldFullBytes = this.#arm.held()
    this.#putAll()
    return { freshBytesPerSecond, heldEmptyBytes, heldFullBytes }
  }

  close() {
    this.#arm.close()
  }

  #fillOne() {
    const { largeEvery } = this.#plan
    const data = ++this.#done % largeEvery === 0 ? this.#large : this.#data
    const buffer = this.#arm.get()
    buffer.append(data)
    if (buffer.length !== data.length) {
      throw new Error(`${data.length} bytes were written, ${buffer.length} are there`)
    }
    this.#total += buffer.length
    this.#open.push(buffer)
  }

  #putAll() {
    for (const buffer of this.#open) this.#arm.put(buffer)
    this.#open.length = 0
  }

  #freshBytesPerSecond() {
    const seconds = (performance.now() - this.#since) / 1e3
    return (this.#arm.fresh?.() ?? this.#total) / seconds
  }
}

module.exports = { Work }
