'use strict'

const { PerformanceObserver } = require('node:perf_hooks')

/** Notes every garbage collection of the process, with its start and duration. */
class GcWatch {
  #pauses = []
  #observer

  constructor() {
    this.#observer = new PerformanceObserver((list) => this.#note(list.getEntries()))
    this.#observer.observe({ entryTypes: ['gc'] })
  }

  /**
   * @param {number} start as of performance.now(), ms
   * @param {number} end
   * @returns {{ gcCount: number, gcTimeMs: number, gcMaxPauseMs: number }}
   */
  between(start, end) {
    this.#note(this.#observer.takeRecords())
    const inside = this.#pauses
      .filter((pause) => pause.startTime >= start && pause.startTime < end)
      .map((pause) => pause.duration)
    return {
      gcCount: inside.length,
      gcTimeMs: inside.reduce((total, duration) => total + duration, 0),
      gcMaxPauseMs: inside.reduce((longest, duration) => Math.max(longest, duration), 0)
    }
  }

  #note(entries) {
    for (const { startTime, duration } of entries) this.#pauses.push({ startTime, duration })
  }
}

module.exports = { GcWatch }
