'use strict'

const fs = require('node:fs')
const { performance } = require('node:perf_hooks')

/** Often enough to see a sawtooth of collections, seldom enough to cost well under 1 % of a core. */
const SAMPLE_EVERY_MS = 25

/** Linux: writing this to clear_refs sets the kernel's high-water mark of the RSS to the RSS of now. */
const RESET_HIGH_WATER = '5'

/**
 * Samples the memory of the process. By a timer, and from `sampleIfDue` as well, since a server under
 * load may not come round to its timers for a long time.
 */
class MemoryWatch {
  #timer
  #lastAt = Number.NEGATIVE_INFINITY
  #running = false
  #count = 0
  #rssSum = 0
  #rssPeak = 0
  #externalPeak = 0
  #exactPeak = false

  start() {
    this.#exactPeak = resetHighWater()
    this.#running = true
    this.#sample()
    this.#timer = setInterval(() => this.sampleIfDue(), SAMPLE_EVERY_MS).unref()
  }

  sampleIfDue() {
    if (this.#running && performance.now() - this.#lastAt >= SAMPLE_EVERY_MS) this.#sample()
  }

  /** @returns {{ rssMeanBytes: number, rssPeakBytes: number, externalPeakBytes: number }} */
  stop() {
    this.#sample()
    this.#running = false
    clearInterval(this.#timer)
    return {
      rssMeanBytes: this.#rssSum / this.#count,
      rssPeakBytes: Math.max(this.#rssPeak, this.#exactPeak ? highWaterBytes() : 0),
      externalPeakBytes: this.#externalPeak
    }
  }

  #sample() {
    this.#lastAt = performance.now()
    const { rss, external } = process.memoryUsage()
    this.#count++
    this.#rssSum += rss
    this.#rssPeak = Math.max(this.#rssPeak, rss)
    this.#externalPeak = Math.max(this.#externalPeak, external)
  }
}

/** True if the kernel's high-water mark now counts from here; elsewhere the samples have to do. */
function resetHighWater() {
  try {
    fs.writeFileSync('/proc/self/clear_refs', RESET_HIGH_WATER)
    return highWaterBytes() > 0
  } catch {
    return false
  }
}

function highWaterBytes() {
  const status = fs.readFileSync('/proc/self/status', 'latin1')
  const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0
  return Number(kibibytes) * 1024
}

module.exports = { MemoryWatch }
