'use strict'

/**
 * Where sampled leases were taken, to tell of those that the garbage collector ends.
 *
 * The state of a sampled lease is one of its own. So its release takes the slow path, which drops the
 * record, and a finalizer that finds this state has found a leak.
 *
 * The idea is Netty's ResourceLeakDetector: one lease in so many, with its stack.
 */

const path = require('node:path')
const { performance } = require('node:perf_hooks')
const process = require('node:process')
const channels = require('./channels')
const { BASE, LEASED, LEASES, SAMPLE, SAMPLED, STATE } = require('./ledger')
const { nextKey, table } = require('./runtime')

// As they were when cistern was loaded: other code must not run in the middle of a lease.
const { floor, log, log1p, max, min, random } = Math
const now = performance.now.bind(performance)

/** Frames of a call site that are kept, beyond ours. */
const FRAMES = 8

/** Frames of ours on top of the caller's. */
const OWN_FRAMES = 4

/** Records that are kept. The oldest goes first: what has been leased that long is no news. */
const RECORDS = 100_000

/** Different call sites that are counted, beyond which a new one counts anew each time. */
const SITES = 1000

/**
 * To record a stack takes some microseconds, thirty leases' time. So a share of at most so many
 * leases a second is recorded, and of so many at a time; with every lease to be recorded, every one is.
 */
const LEASES_PER_SECOND = 12_800
const LEASES_AT_ONCE = 128_000

/**
 * The share of them that is recorded, at least: 100 a second, and 1,000 at a time. A rate below it asks for
 * fewer records anyway, and a share of its own would be less than one.
 */
const SMALLEST_SHARE = 1 / 128

/** When too many were recorded of late, so many times as many leases go by until the next try. */
const PAUSE = 32

/** The most leases between two samples: counts are exact up to 2^53. */
const SELDOM = 2 ** 40

class Sampler {
  #rate
  #pool
  /** The share of leases that may be recorded of so many. */
  #share
  /** Records that may be made now. */
  #tokens
  #filledAt = now()
  #lastId = 0
  #pause = 1
  /**
   * Of leases that were not released yet, by number.
   *
   * @type {Map<number, { size: number, stack: string }>}
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
    this.#share = max(rate, SMALLEST_SHARE)
    this.#tokens = this.#share * LEASES_AT_ONCE
  }

  /**
   * Has a segment count down to its next sampled lease. Random, so as not to beat with a pattern.
   *
   * @param {Float64Array} words the segment's
   */
  countDown(words) {
    if (this.#rate === 0) return
    const counted = words[LEASES] - words[BASE]
    // By the geometric distribution: each lease is as likely as any other.
    const skipped = this.#rate === 1 ? 0 : floor(log(1 - random()) / log1p(-this.#rate))
    const leases = 1 + min(skipped, SELDOM) * this.#pause
    words[BASE] = -leases - counted
    words[LEASES] = -leases
  }

  /** Whether a lease that no slot counts is to be sampled. */
  isDue() {
    return random() < this.#rate
  }

  /**
   * The stack of the caller of `below`; `undefined` where too many were taken of late.
   *
   * @param {Function} below the topmost function that is of no interest
   */
  take(below) {
    if (this.#rate < 1 && !this.#spend()) {
      this.#pause = PAUSE
      return undefined
    }
    this.#pause = 1
    return stackBelow(below)
  }

  /**
   * @param {import('./slot').Slot} slot just leased
   * @param {number} size
   * @param {string} stack
   */
  record({ words, at }, size, stack) {
    const id = ++this.#lastId
    words[at + SAMPLE] = id
    words[at + STATE] = SAMPLED
    if (table.size(this.#records) === RECORDS) this.forget(firstOf(this.#records))
    table.set(this.#records, id, { size, stack })
  }

  /**
   * Drops the record of a sampled lease, which is from now on like any other.
   *
   * @param {import('./slot').Slot} slot attached
   */
  drop({ words, at }) {
    words[at + STATE] = LEASED
    table.delete(this.#records, words[at + SAMPLE])
  }

  /**
   * Drops a record by its number.
   *
   * @param {number} id
   */
  forget(id) {
    table.delete(this.#records, id)
  }

  /**
   * Tells of a leak.
   *
   * @param {number} id its record's
   * @param {() => boolean} isFirst whether no leak of the pool was told before
   */
  tell(id, isFirst) {
    const record = table.get(this.#records, id)
    table.delete(this.#records, id)
    if (record !== undefined) this.#publish(record, isFirst)
  }

  /**
   * @param {{ size: number, stack: string }} record
   * @param {() => boolean} isFirst
   */
  #publish({ size, stack }, isFirst) {
    const count = (table.get(this.#counts, stack) ?? 0) + 1
    if (count > 1 || table.size(this.#counts) < SITES) table.set(this.#counts, stack, count)
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
    const time = now()
    const refill = ((time - this.#filledAt) / 1000) * LEASES_PER_SECOND * this.#share
    this.#tokens = min(this.#tokens + refill, this.#share * LEASES_AT_ONCE)
    this.#filledAt = time
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}

/**
 * @param {Map<number, unknown>} records at least one
 * @returns {number} the oldest one's
 */
function firstOf(records) {
  return nextKey(table.keys(records)).value ?? 0
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
  const limit = Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit')
  try {
    raiseLimit()
    Error.captureStackTrace(holder, below)
    return framesOf(holder.stack)
  } catch {
    // Someone's `prepareStackTrace` throws: no stack, no record.
    return undefined
  } finally {
    restore(limit)
  }
}

/**
 * A stack's frames that are not ours, as text.
 *
 * @param {unknown} stack V8's, or whatever someone's `prepareStackTrace` has made of it
 */
function framesOf(stack) {
  const lines = Array.isArray(stack) ? stack.map(String) : String(stack ?? '').split('\n')
  // V8's has the error itself in front.
  const frames = Array.isArray(stack) || lines.length === 1 ? lines : lines.slice(1)
  const text = frames
    .filter((line) => !line.includes(OWN_FOLDER))
    .slice(0, FRAMES)
    .join('\n')
  return text === '' ? '    at an unknown place' : text
}

function raiseLimit() {
  try {
    Error.stackTraceLimit = FRAMES + OWN_FRAMES
  } catch {
    // Errors are frozen here: the stack has as many frames as V8 takes by itself.
  }
}

/** @param {PropertyDescriptor | undefined} limit */
function restore(limit) {
  try {
    if (limit === undefined) Reflect.deleteProperty(Error, 'stackTraceLimit')
    else Object.defineProperty(Error, 'stackTraceLimit', limit)
  } catch {
    // As it could not be changed.
  }
}

module.exports = { Sampler }
