'use strict'

/**
 * Records the call sites of sampled leases. They show who holds memory, and which leases the
 * garbage collector has ended.
 *
 * - A sampled lease MUST have the state `SAMPLED`. So its release takes the slow path, which drops
 *   the record, and a finalizer that finds this state has found a leak.
 * - Each record MUST be dropped by the release, or by the core's report that the lease has ended
 *   elsewhere.
 * - It MUST NOT run other code during a lease, except a formatter of stacks, which `ThreadCache`
 *   expects.
 *
 * The idea is Netty's ResourceLeakDetector: it records one lease in N, with its stack.
 *
 * Collaborators: the call sites, the core (`runtime/native`: reports and warnings), the channels.
 */

const { performance } = require('node:perf_hooks')
const process = require('node:process')
const { callSiteBelow } = require('./call-site')
const channels = require('../pool/channels')
const native = require('../runtime/native')
const { BASE, LEASED, LEASES, SAMPLE, SAMPLED, STATE } = require('./thread-counters')
const { freeze, listOf, nextKey, table, uncurry } = require('../runtime/intrinsics')

// Taken when cistern is loaded: other code must not run during a lease.
const { floor, log, log1p, max, min, random } = Math
const now = performance.now.bind(performance)
const sort = uncurry(Array.prototype.sort)

/**
 * The most records. The oldest is dropped first: a lease that has lasted that long tells nothing
 * new.
 */
const RECORDS = 100_000

/**
 * The number of call sites of a pool that get a warning for their first leak: `MOST_SITES` in
 * `src/pool/leak_sites.rs`.
 */
const MOST_WARNINGS = 10

/** The number of call sites that are counted. A leak of any other call site counts as its first. */
const SITES = 1000

/**
 * A record takes some microseconds, as long as thirty leases. So the sampler records a share of at
 * most this many leases a second, and of the second number at once. At a rate of 1 it records every
 * lease.
 */
const LEASES_PER_SECOND = 12_800
const LEASES_AT_ONCE = 128_000

/**
 * The smallest share: 100 records a second, and 1,000 at once. A rate below it asks for fewer
 * records anyway, and its own share would be less than one record.
 */
const SMALLEST_SHARE = 1 / 128

/** After too many records the sampler skips this many times as many leases before the next try. */
const PAUSE = 32

/** The most leases between two samples: counts are exact up to 2^53. */
const SELDOM = 2 ** 40

/**
 * A sampled lease.
 *
 * @typedef {object} Sample
 * @property {number} size asked for
 * @property {number} bytes of its block
 * @property {number} at the time of the lease
 * @property {string} stack
 */

class Sampler {
  #rate
  #pool
  /** The share of `LEASES_PER_SECOND` and of `LEASES_AT_ONCE` that may be recorded. */
  #share
  /** The number of records that may be made now. */
  #tokens
  #filledAt = now()
  #lastId = 0
  #pause = 1
  /**
   * Records of leases that have not ended, by number.
   *
   * @type {Map<number, Sample>}
   */
  #records = new Map()
  /**
   * Records of leaks that are still to be published, by number.
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
   * Starts a segment's count down to its next sampled lease. The start is random, because a fixed
   * one could coincide with a pattern of the leases.
   *
   * @param {Float64Array} words the segment's
   */
  countDown(words) {
    if (this.#rate === 0) return
    const counted = words[LEASES] - words[BASE]
    // A geometric distribution: each lease is as likely as any other.
    const skipped = this.#rate === 1 ? 0 : floor(log(1 - random()) / log1p(-this.#rate))
    const leases = 1 + min(skipped, SELDOM) * this.#pause
    words[BASE] = -leases - counted
    words[LEASES] = -leases
  }

  /** Decides whether to sample a lease that no slot counts. */
  isDue() {
    return random() < this.#rate
  }

  /**
   * Returns the stack of the caller of `below`; `undefined` after too many records.
   *
   * @param {Function} below the topmost function to leave out
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
   * Records a lease.
   *
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
   * Drops the record of a sampled lease, which becomes a lease like any other.
   *
   * @param {import('./slot').Slot} slot attached
   */
  drop({ words, at }) {
    words[at + STATE] = LEASED
    table.delete(this.#records, words[at + SAMPLE])
  }

  /**
   * Drops a record.
   *
   * @param {number} id
   */
  forget(id) {
    table.delete(this.#records, id)
  }

  /**
   * Takes the core's reports of sampled leases that have ended in the garbage collector, or in
   * another thread. The leaks among them are published later, by `tellLeaks`.
   *
   * @param {import('../runtime/native').Attachment} attachment
   */
  takeReports(attachment) {
    for (;;) {
      const report = native.nextReport(attachment)
      if (report === null) return
      if (report < 0) this.forget(-report)
      else this.#leak(report)
    }
  }

  /** @param {number} id of a record */
  #leak(id) {
    const record = table.get(this.#records, id)
    if (record === undefined) return
    table.delete(this.#records, id)
    table.set(this.#leaks, id, record)
  }

  /**
   * Publishes the leaks, or emits warnings of them. Runs other code.
   *
   * @param {import('../runtime/native').Attachment} attachment
   */
  tellLeaks(attachment) {
    while (table.size(this.#leaks) > 0) {
      const id = firstOf(this.#leaks)
      const record = /** @type {Sample} */ (table.get(this.#leaks, id))
      table.delete(this.#leaks, id)
      this.#tell(record, attachment)
    }
  }

  /**
   * Returns the holders of sampled leases: the call sites, with the most bytes first.
   *
   * @returns {readonly import('../..').Holder[]}
   */
  holders() {
    const time = now()
    /** @type {Map<string, { stack: string, count: number, bytes: number, oldestMs: number }>} */
    const sites = new Map()
    table.forEach(this.#records, (/** @type {Sample} */ { bytes, at, stack }) => {
      const site = table.get(sites, stack)
      // Records are in the order of their leases, so a site's first record is its oldest.
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
   * @param {import('../runtime/native').Attachment} attachment
   */
  #tell({ size, stack }, attachment) {
    const count = (table.get(this.#counts, stack) ?? 0) + 1
    if (count > 1 || table.size(this.#counts) < SITES) table.set(this.#counts, stack, count)
    const pool = this.#pool
    if (channels.leak.hasSubscribers) {
      channels.leak.publish({ pool, size, stack, count })
      return
    }
    const number = native.noteLeakSite(attachment, stack)
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

  /** Takes a token for one record, if there is one. */
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
 * Compares for a sort.
 *
 * @param {{ bytes: number }} one
 * @param {{ bytes: number }} other
 */
function mostBytesFirst(one, other) {
  return other.bytes - one.bytes
}

/**
 * Returns the number of the oldest record.
 *
 * @param {Map<number, unknown>} records at least one
 * @returns {number}
 */
function firstOf(records) {
  return nextKey(table.keys(records)).value ?? 0
}

module.exports = { Sampler }
