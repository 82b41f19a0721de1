'use strict'

const fs = require('node:fs')
const { performance } = require('node:perf_hooks')
const { median } = require('simple-statistics')

/**
 * Short enough to show the sawtooth of collections, long enough to cost far less than 1 % of a
 * core.
 */
const SAMPLE_EVERY_MS = 25

/** A pool's figures take longer to read, so only one in this many samples reads them. */
const POOL_EVERY = 4

/**
 * Linux: writing this to clear_refs sets the kernel's high-water mark of the RSS to the current
 * RSS.
 */
const RESET_HIGH_WATER = '5'

/**
 * Samples the memory of the process. It samples by a timer and in `sampleIfDue`, because a server
 * under load may not run its timers for a long time. It also measures the time of the sampling
 * itself.
 */
class MemoryWatch {
  #stats
  #timer
  #startedAt = 0
  #lastAt = Number.NEGATIVE_INFINITY
  #running = false
  #exactPeak = false
  /** @type {number | undefined} */
  #poolBytes
  /** The time that each sample took. @type {number[]} */
  #takenMs = []
  #series = emptySeries()

  /** @param {(() => { inUseBytes: number, idleBytes?: number }) | undefined} stats of the arm */
  constructor(stats) {
    this.#stats = stats
  }

  start() {
    this.#exactPeak = resetHighWater()
    this.#running = true
    this.#series = emptySeries()
    this.#takenMs = []
    this.#startedAt = performance.now()
    this.#sample()
    this.#timer = setInterval(() => this.sampleIfDue(), SAMPLE_EVERY_MS).unref()
  }

  sampleIfDue() {
    if (this.#running && performance.now() - this.#lastAt >= SAMPLE_EVERY_MS) this.#sample()
  }

  /** @returns {object} the metrics, and the samples as `series` */
  stop() {
    this.#sample()
    this.#running = false
    clearInterval(this.#timer)
    const { rssBytes, externalBytes, heapBytes, poolBytes, ...rest } = this.#series
    const peak = Math.max(...rssBytes)
    return {
      rssMeanBytes: rssBytes.reduce((sum, bytes) => sum + bytes, 0) / rssBytes.length,
      rssPeakBytes: Math.max(peak, this.#exactPeak ? highWaterBytes() : 0),
      ...proportionalBytes(),
      externalPeakBytes: Math.max(...externalBytes),
      heapPeakBytes: Math.max(...heapBytes),
      // The median ignores samples during which another process ran.
      samplingShare:
        (median(this.#takenMs) * this.#takenMs.length) / (this.#lastAt - this.#startedAt),
      series: {
        ...rest,
        rssBytes,
        externalBytes,
        heapBytes,
        ...(poolBytes.length > 0 && { poolBytes })
      }
    }
  }

  #sample() {
    const now = performance.now()
    this.#lastAt = now
    const { rss, external, heapUsed } = process.memoryUsage()
    const series = this.#series
    series.atMs.push(Math.round((now - this.#startedAt) * 10) / 10)
    series.rssBytes.push(rss)
    series.externalBytes.push(external)
    series.heapBytes.push(heapUsed)
    if (series.atMs.length % POOL_EVERY === 1) this.#poolBytes = heldBy(this.#stats?.())
    if (this.#poolBytes !== undefined) series.poolBytes.push(this.#poolBytes)
    this.#takenMs.push(performance.now() - now)
  }
}

/** Returns the figures of a pool; `undefined` if there is no pool. */
function heldBy({ inUseBytes = 0, idleBytes = undefined } = {}) {
  return idleBytes === undefined ? undefined : inUseBytes + idleBytes
}

function emptySeries() {
  return { atMs: [], rssBytes: [], externalBytes: [], heapBytes: [], poolBytes: [] }
}

/**
 * Restarts the kernel's high-water mark. Returns false where that is impossible; the samples
 * replace it there.
 */
function resetHighWater() {
  try {
    fs.writeFileSync('/proc/self/clear_refs', RESET_HIGH_WATER)
    return highWaterBytes() > 0
  } catch {
    return false
  }
}

function highWaterBytes() {
  return kibibytesOf('/proc/self/status', /^VmHWM:\s+(\d+) kB$/m)
}

/**
 * Returns the process's own memory, with its share of the memory that it shares with others. Call
 * it once, after the window: the kernel walks all pages for it, which takes milliseconds.
 */
function proportionalBytes() {
  try {
    return { pssBytes: kibibytesOf('/proc/self/smaps_rollup', /^Pss:\s+(\d+) kB$/m) }
  } catch {
    return {}
  }
}

/**
 * @param {string} file of the kernel
 * @param {RegExp} line with the figure
 */
function kibibytesOf(file, line) {
  return Number(line.exec(fs.readFileSync(file, 'latin1'))?.[1] ?? 0) * 1024
}

module.exports = { MemoryWatch }
