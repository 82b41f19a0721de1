'use strict'

const { performance } = require('node:perf_hooks')
const { setImmediate: nextTurn } = require('node:timers/promises')
const { EventLoopWatch } = require('./event-loop')
const { GcWatch } = require('./gc')
const { MemoryWatch } = require('./memory')

/**
 * Records the metrics of one process between `start` and `stop`. It runs inside the process that it
 * measures, so per request it only adds two numbers and reads the clock.
 */
class Recorder {
  #gc = new GcWatch()
  #eventLoop = new EventLoopWatch()
  #memory
  #stats
  #requests = 0
  #bytes = 0
  #start

  /**
   * @param {() => { allocBytes: number, inUseBytes: number, idleBytes?: number }} [stats] of the
   *   arm; without it the requested bytes and V8's ArrayBuffers replace it
   */
  constructor(stats) {
    this.#memory = new MemoryWatch(stats)
    this.#stats = stats ?? (() => this.#statsOfV8())
  }

  /**
   * Counts one request, or many operations at once.
   *
   * @param {number} bytes of Buffers that were used
   * @param {number} [count] of requests or operations
   */
  request(bytes, count = 1) {
    this.#requests += count
    this.#bytes += bytes
    this.#memory.sampleIfDue()
  }

  /** Opens the window. */
  start() {
    this.#memory.start()
    this.#eventLoop.start()
    this.#start = this.#counters()
  }

  /**
   * Closes the window and returns its metrics.
   *
   * @returns {Promise<object>} the metrics that this process can measure, by their names in the
   *   JSON
   */
  async stop() {
    const start = this.#start
    const end = this.#counters()
    const eventLoop = this.#eventLoop.stop()
    const memory = this.#memory.stop()
    // Node queues the entries of collections; the last ones arrive in the next event-loop turn.
    await nextTurn()
    const seconds = (end.at - start.at) / 1e3
    const requests = end.requests - start.requests
    const perRequest = (name) => (requests === 0 ? null : (end[name] - start[name]) / requests)
    return {
      bytesPerSecond: (end.bytes - start.bytes) / seconds,
      ...memory,
      ...eventLoop,
      ...this.#gc.between(start.at, end.at),
      cpuMicrosPerRequest: perRequest('cpuMicros'),
      cpuUserMicrosPerRequest: perRequest('cpuUserMicros'),
      cpuSystemMicrosPerRequest: perRequest('cpuSystemMicros'),
      contextSwitches: end.contextSwitches - start.contextSwitches,
      minorPageFaults: end.minorPageFaults - start.minorPageFaults,
      allocBytes: end.stats.allocBytes - start.stats.allocBytes,
      inUseBytes: end.stats.inUseBytes,
      ...poolOf(end.stats),
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
      cpuUserMicros: usage.userCPUTime,
      cpuSystemMicros: usage.systemCPUTime,
      contextSwitches: usage.voluntaryContextSwitches + usage.involuntaryContextSwitches,
      minorPageFaults: usage.minorPageFault,
      stats: this.#stats()
    }
  }

  #statsOfV8() {
    return { allocBytes: this.#bytes, inUseBytes: process.memoryUsage().arrayBuffers }
  }
}

/** Returns the figures of a pool when the window closes, over all sizes. */
function poolOf({ idleBytes, classes, ...stats }) {
  return idleBytes === undefined ? {} : { pool: { idleBytes, ...stats } }
}

module.exports = { Recorder }
