'use strict'

const { performance } = require('node:perf_hooks')
const { setImmediate: nextTurn } = require('node:timers/promises')
const { GcWatch } = require('./gc')
const { MemoryWatch } = require('./memory')

/**
 * Records what one process does between `start` and `stop`. It runs inside the process it measures,
 * so all it does per request is add two numbers and look at the clock.
 */
class Recorder {
  #gc = new GcWatch()
  #memory = new MemoryWatch()
  #stats
  #requests = 0
  #bytes = 0
  #start

  /**
   * @param {() => { allocBytes: number, inUseBytes: number }} [stats] of the arm; without it the bytes
   *   asked for and V8's ArrayBuffers stand in
   */
  constructor(stats) {
    this.#stats = stats ?? (() => this.#statsOfV8())
  }

  /**
   * To be called once per request.
   *
   * @param {number} bytes of Buffers that the request used
   */
  request(bytes) {
    this.#requests++
    this.#bytes += bytes
    this.#memory.sampleIfDue()
  }

  /** Opens the window. */
  start() {
    this.#memory.start()
    this.#start = this.#counters()
  }

  /**
   * Closes the window.
   *
   * @returns {Promise<object>} the metrics that this process knows, under their names in the JSON
   */
  async stop() {
    const start = this.#start
    const end = this.#counters()
    const memory = this.#memory.stop()
    // Entries of collections are queued; the last ones come in the turn after.
    await nextTurn()
    const seconds = (end.at - start.at) / 1e3
    const requests = end.requests - start.requests
    return {
      bytesPerSecond: (end.bytes - start.bytes) / seconds,
      ...memory,
      ...this.#gc.between(start.at, end.at),
      cpuMicrosPerRequest: requests === 0 ? null : (end.cpuMicros - start.cpuMicros) / requests,
      minorPageFaults: end.minorPageFaults - start.minorPageFaults,
      allocBytes: end.stats.allocBytes - start.stats.allocBytes,
      inUseBytes: end.stats.inUseBytes,
      serverCpuShare: (end.cpuMicros - start.cpuMicros) / 1e6 / seconds
    }
  }

  #counters() {
    const usage = process.resourceUsage()
    return {
      at: performance.now(),
      requests: this.#requests,
      bytes: this.#bytes,
      cpuMicros: usage.userCPUTime + usage.systemCPUTime,
      minorPageFaults: usage.minorPageFault,
      stats: this.#stats()
    }
  }

  #statsOfV8() {
    return { allocBytes: this.#bytes, inUseBytes: process.memoryUsage().arrayBuffers }
  }
}

module.exports = { Recorder }
