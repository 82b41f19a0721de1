'use strict'

const { monitorEventLoopDelay } = require('node:perf_hooks')

/** The interval at which Node samples the delay, in ms. Node counts that interval as delay. */
const RESOLUTION_MS = 5

/** Measures how late the event loop runs its timers. */
class EventLoopWatch {
  #histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })

  start() {
    this.#histogram.reset()
    this.#histogram.enable()
  }

  /** @returns {{ eventLoopDelayP50Ms: number, eventLoopDelayP99Ms: number }} */
  stop() {
    this.#histogram.disable()
    const delay = (percentile) =>
      Math.max(0, this.#histogram.percentile(percentile) / 1e6 - RESOLUTION_MS)
    return { eventLoopDelayP50Ms: delay(50), eventLoopDelayP99Ms: delay(99) }
  }
}

module.exports = { EventLoopWatch }
