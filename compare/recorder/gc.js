'use strict'

const { PerformanceObserver, constants } = require('node:perf_hooks')

/** The names of the kinds of collections, by Node's numbers. */
const KINDS = new Map([
  [constants.NODE_PERFORMANCE_GC_MINOR, 'scavenge'],
  [constants.NODE_PERFORMANCE_GC_MINOR_MARK_SWEEP, 'minor mark-compact'],
  [constants.NODE_PERFORMANCE_GC_MAJOR, 'mark-compact'],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, 'incremental'],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, 'weak callbacks']
])

/** The flag of a collection that memory outside of the heap caused. */
const EXTERNAL = constants.NODE_PERFORMANCE_GC_FLAGS_ALL_EXTERNAL_MEMORY

/**
 * @typedef {object} Pause
 * @property {number} atMs since the window began
 * @property {number} ms
 * @property {string} kind
 * @property {boolean} external true if memory outside of the heap caused it
 */

/** Records every garbage collection of the process. */
class GcWatch {
  #entries = []
  #observer

  constructor() {
    this.#observer = new PerformanceObserver((list) => this.#note(list.getEntries()))
    this.#observer.observe({ entryTypes: ['gc'] })
  }

  /**
   * @param {number} start as of performance.now(), ms
   * @param {number} end
   * @returns {{ gcCount: number, gcTimeMs: number, gcMaxPauseMs: number, pauses: Pause[] }}
   */
  between(start, end) {
    this.#note(this.#observer.takeRecords())
    const pauses = this.#entries
      .filter(({ startTime }) => startTime >= start && startTime < end)
      .map(({ startTime, duration, detail }) => ({
        atMs: round(startTime - start),
        ms: round(duration),
        kind: KINDS.get(detail.kind) ?? 'unknown',
        external: (detail.flags & EXTERNAL) !== 0
      }))
    const lengths = pauses.map(({ ms }) => ms)
    return {
      gcCount: pauses.length,
      gcTimeMs: lengths.reduce((total, ms) => total + ms, 0),
      gcMaxPauseMs: Math.max(0, ...lengths),
      pauses
    }
  }

  #note(entries) {
    for (const { startTime, duration, detail } of entries) {
      this.#entries.push({ startTime, duration, detail })
    }
  }
}

/** Rounds to microseconds, because people read saved results too. @param {number} ms */
function round(ms) {
  return Math.round(ms * 1000) / 1000
}

module.exports = { GcWatch }
