'use strict'

/**
 * Where sampled leases were taken, to show who holds memory, and to tell of leases that the garbage collector ends.
 *
 * The state of a sampled lease is one of its own. So its release takes the slow path, which drops the
 * record, and a finalizer that finds this state has found a leak.
 *
 * The idea is Netty's ResourceLeakDetector: one lease in so many, with its stack.
 */

const { performance } = require('node:perf_hooks')
const process = require('node:process')
const { callSiteBelow } = require('./call-site')
const channels = require('../pool/channels')
const { BASE, LEASED, LEASES, SAMPLE, SAMPLED, STATE } = require('./thread-counters')
const { freeze, listOf, nextKey, table, uncurry } = require('../runtime/intrinsics')

// As they were when cistern was loaded: other code must not run in the middle of a lease.
const { floor, log, log1p, max, min, random } = Math
const now = performance.now.bind(performance)
const sort = uncurry(Array.prototype.sort)

/** Records that are kept. The oldest goes first: what has been leased that long is no news. */
const RECORDS = 100_000

/** Call sites of a pool of which the first leak is a warning, as `MOST_SITES` in `src/pool/leak_sites.rs` has it. */
const MOST_WARNINGS = 10

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

/**
 * A sampled lease.
 *
 * @typedef {object} Sample
 * @property {number} size what was asked for
 * @property {number} bytes its block's
 * @property {number} at when it was taken
 * @property {string} stack
 */

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
   * @type {Map<number, Sample>}
   */
  #records = new Map()
  /**
   * Of leaks that are still to be told, by number.
   *
   * @type {Map<number, Sample>}
   */
  #leaks = new Map()
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
    return callSiteBelow(below)
  }

  /**
   * @param {import('./slot').Slot} slot just leased
   * @param {number} size
   * @param {string} stack
   */
  record({ words, at, magazine }, size, stack) {
    const id = ++this.#lastId
    words[at + SAMPLE] = id
    words[at + STATE] = SAMPLED
    if (table.size(this.#records) === RECORDS) this.forget(firstOf(this.#records))
    const bytes = magazine === null ? size : magazine.blockSize
    table.set(this.#records, id, { size, bytes, at: now(), stack })
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
   * Notes that the garbage collector has ended a lease, which is told later.
   *
   * @param {number} id its record's
   */
  leak(id) {
    const record = table.get(this.#records, id)
    if (record === undefined) return
    table.delete(this.#records, id)
    table.set(this.#leaks, id, record)
  }

  /**
   * Tells of the leaks that were noted.
   *
   * @param {(site: string) => number} noteSite which one it is of the call sites to be told by a warning; 0: it is
   *   none of these
   */
  tellLeaks(noteSite) {
    while (table.size(this.#leaks) > 0) {
      const id = firstOf(this.#leaks)
      const record = /** @type {Sample} */ (table.get(this.#leaks, id))
      table.delete(this.#leaks, id)
      this.#publish(record, noteSite)
    }
  }

  /**
   * Who holds sampled leases now, by call site, the most bytes first.
   *
   * @returns {readonly import('../..').Holder[]}
   */
  holders() {
    const time = now()
    /** @type {Map<string, { stack: string, count: number, bytes: number, oldestMs: number }>} */
    const sites = new Map()
    table.forEach(this.#records, (/** @type {Sample} */ { bytes, at, stack }) => {
      const site = table.get(sites, stack)
      // Records are in the order of their leases: a site's first is its oldest.
      if (site === undefined)
        table.set(sites, stack, { stack, count: 1, bytes, oldestMs: time - at })
      else {
        site.count++
        site.bytes += bytes
      }
    })
    const keys = table.keys(sites)
    const list = listOf(table.size(sites), () => freeze(table.get(sites, nextKey(keys).value)))
    return freeze(sort(list, mostBytesFirst))
  }

  /**
   * @param {Sample} record
   * @param {(site: string) => number} noteSite
   */
  #publish({ size, stack }, noteSite) {
    const count = (table.get(this.#counts, stack) ?? 0) + 1
    if (count > 1 || table.size(this.#counts) < SITES) table.set(this.#counts, stack, count)
    const pool = this.#pool
    if (channels.leak.hasSubscribers) {
      channels.leak.publish({ pool, size, stack, count })
      return
    }
    const number = noteSite(stack)
    if (number === 0) return
    const others =
      number === MOST_WARNINGS ? 'Further ones, of any call site,' : 'Others of its call site'
    process.emitWarning(
      `A Buffer of ${size} bytes from pool '${pool}' was collected and had not been released. ` +
        `The pool has its memory again, but late: release it. ${others} are told through the ` +
        `diagnostics channel 'cistern:leak' alone. It was taken\n${stack}`,
      { code: 'CISTERN_LEAK' }
    )
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
 * @param {{ bytes: number }} one
 * @param {{ bytes: number }} other
 */
function mostBytesFirst(one, other) {
  return other.bytes - one.bytes
}

/**
 * @param {Map<number, unknown>} records at least one
 * @returns {number} the oldest one's
 */
function firstOf(records) {
  return nextKey(table.keys(records)).value ?? 0
}

module.exports = { Sampler }
