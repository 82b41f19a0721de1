'use strict'

/**
 * Where sampled leases were taken, to tell of those that the garbage collector ends.
 *
 * The record's number stands on the block's seat. A finalizer reads it there, with the count of
 * leases: if that is what it was when the record was made, the record is of the very lease that leaked.
 *
 * The idea is Netty's ResourceLeakDetector: one lease in so many, with its stack.
 */

const path = require('node:path')
const { performance } = require('node:perf_hooks')
const channels = require('./channels')
const { LEASES, SAMPLE } = require('./ledger')

/** Frames of a call site that are kept, beyond ours. */
const FRAMES = 8

/** Frames of ours on top of the caller's. */
const OWN_FRAMES = 4

/** Different call sites that are counted, beyond which a new one counts anew each time. */
const SITES = 1000

/**
 * To record a stack takes some microseconds, thirty leases' time. So a share of at most so many
 * leases a second is recorded, and of so many at a time; with every lease to be recorded, every one is.
 */
const LEASES_PER_SECOND = 12_800
const LEASES_AT_ONCE = 128_000

/** A countdown that is never over in practice; a small integer, as countdowns are. */
const NEVER = 2 ** 30

class Sampler {
  #rate
  #pool
  /** Records that may be made now. */
  #tokens
  #filledAt = performance.now()
  #lastId = 0
  /**
   * By seat, so that there are never more than blocks.
   *
   * @type {Map<number, { id: number, leases: number, size: number, stack: string }>}
   */
  #records = new Map()
  /** @type {Map<string, number>} */
  #counts = new Map()

  /**
   * @param {string} pool its name
   * @param {number} rate the share of leases, from 0 to 1
   */
  constructor(pool, rate) {
    this.#pool = pool
    this.#rate = rate
    this.#tokens = rate * LEASES_AT_ONCE
  }

  /** How many leases to count down to the next sample. Random, so as not to beat with a pattern. */
  interval() {
    if (this.#rate === 0) return NEVER
    return Math.min(NEVER, Math.max(1, Math.round(Math.random() * (2 / this.#rate - 1) + 0.5)))
  }

  /**
   * The stack of the caller of `below`; `undefined` where too many were taken of late.
   *
   * @param {Function} below the topmost function that is of no interest
   */
  take(below) {
    if (this.#rate < 1 && !this.#spend()) return undefined
    return stackBelow(below)
  }

  /**
   * @param {import('./slot').Slot} slot just leased
   * @param {number} size
   * @param {string} stack
   */
  record(slot, size, stack) {
    const id = ++this.#lastId
    slot.words[slot.at + SAMPLE] = id
    this.#records.set(slot.seat, { id, leases: slot.words[slot.at + LEASES], size, stack })
  }

  /**
   * Tells of a leak, if its record is of the lease that leaked.
   *
   * @param {{ sample: number, leases: number }} leak
   * @param {() => boolean} isFirst whether no leak of the pool was told before
   */
  tell({ sample, leases }, isFirst) {
    for (const [seat, record] of this.#records) {
      if (record.id !== sample) continue
      this.#records.delete(seat)
      if (record.leases === leases) this.#publish(record, isFirst)
      return
    }
  }

  /**
   * @param {{ size: number, stack: string }} record
   * @param {() => boolean} isFirst
   */
  #publish({ size, stack }, isFirst) {
    const count = (this.#counts.get(stack) ?? 0) + 1
    if (count > 1 || this.#counts.size < SITES) this.#counts.set(stack, count)
    const pool = this.#pool
    if (channels.leak.hasSubscribers) {
      channels.leak.publish({ pool, size, stack, count })
    } else if (isFirst()) {
      process.emitWarning(
        `A Buffer of ${size} bytes from pool '${pool}' was collected and had not been released. ` +
          'The pool has its memory again, but late: release it. Further ones are told through the ' +
          `diagnostics channel 'cistern:leak' alone. It was taken\n${stack}`,
        { code: 'CISTERN_LEAK' }
      )
    }
  }

  #spend() {
    const now = performance.now()
    const refill = ((now - this.#filledAt) / 1000) * LEASES_PER_SECOND * this.#rate
    this.#tokens = Math.min(this.#tokens + refill, this.#rate * LEASES_AT_ONCE)
    this.#filledAt = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}

const OWN_FOLDER = __dirname + path.sep

/**
 * The stack as text, at once: unformatted, it would keep every `this` on it alive, and so perhaps the
 * very Buffer whose end it is to explain.
 *
 * @param {Function} below
 */
function stackBelow(below) {
  /** @type {{ stack?: unknown }} */
  const holder = {}
  const { stackTraceLimit } = Error
  try {
    Error.stackTraceLimit = FRAMES + OWN_FRAMES
    Error.captureStackTrace(holder, below)
    const lines = String(holder.stack).split('\n').slice(1)
    return lines
      .filter((line) => !line.includes(OWN_FOLDER))
      .slice(0, FRAMES)
      .join('\n')
  } catch {
    // Errors are frozen here, or someone's `prepareStackTrace` throws: no stack, no record.
    return undefined
  } finally {
    restore(stackTraceLimit)
  }
}

/** @param {number} limit */
function restore(limit) {
  try {
    Error.stackTraceLimit = limit
  } catch {
    // As it could not be changed.
  }
}

module.exports = { Sampler }
