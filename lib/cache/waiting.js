'use strict'

/**
 * The leases of one thread that wait for memory. Who comes when, across all threads, the core decides:
 * see `src/pool/waiters.rs`.
 */

const native = require('../runtime/native')
const { Closed, Exhausted, NEVER } = require('../pool/errors')
const { EventLoopHold } = require('../runtime/event-loop')
const { addTo, closeOff, deleteFrom, nextKey, table } = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')

/**
 * @typedef {object} Waiter
 * @property {import('./magazine').Magazine} magazine
 * @property {number} size
 * @property {string | undefined} stack where the lease was asked for, if it is a sampled one
 * @property {(lease: import('../pool/lease').Lease) => void} onLease called once the block is leased, unless the wait is cancelled
 * @property {(reason: unknown) => void} onError called where there will be none, unless the wait is cancelled
 */

/**
 * Turns of the event loop that may go by until memory that was given up has reached who waits, where finalizers
 * bring it: one for the finalizer, one for the bell that it rings, and some to spare.
 */
const TURNS = 8

/** Lines with someone in them. What waits is held by nothing else, and must not be collected. */
const awaited = new Set()

class Waiting {
  /** @type {Map<number, Waiter>} */
  #waiters = new Map()
  /** For how many turns the event loop goes on in any case. */
  #turns = 0
  #hold = new EventLoopHold(() => this.#canOthersEnd())

  /**
   * @param {import('./thread-cache').ThreadCache} cache
   */
  constructor(cache) {
    this.cache = cache
  }

  /** Whether nobody waits in this thread. */
  get isEmpty() {
    return table.size(this.#waiters) === 0
  }

  /**
   * Stands in line.
   *
   * @param {Waiter} waiter
   * @returns {number} its ticket
   */
  wait(waiter) {
    const ticket = native.wait(this.cache.attachment, waiter.magazine.index)
    table.set(this.#waiters, ticket, waiter)
    addTo(awaited, this)
    this.#hold.hold()
    return ticket
  }

  /**
   * Waits no more. Whether the ticket was still waiting.
   *
   * @param {number} ticket
   */
  cancel(ticket) {
    if (!this.#leave(ticket)) return false
    native.cancel(this.cache.attachment, ticket)
    // What was freed for this one may be another's of this thread.
    this.collect()
    return true
  }

  /** Hands out what was granted to this thread. */
  collect() {
    // Also where nobody is known to wait: code that vm ends in the midst of a call may have left a ticket behind.
    for (;;) {
      const ticket = native.granted(this.cache.attachment)
      if (ticket === null) break
      this.#serve(ticket)
    }
    if (table.size(this.#waiters) > 0 && this.cache.isClosed) this.#rejectAll()
    if (table.size(this.#waiters) > 0) this.#goOn()
  }

  /**
   * Has the event loop turn for a while. Memory that was given up may be on its way: finalizers run in these turns,
   * and not only when the timer fires that holds the event loop.
   */
  #goOn() {
    const goesOn = this.#turns > 0
    this.#turns = TURNS
    if (!goesOn) setImmediate(() => this.#turn())
  }

  #turn() {
    this.#turns = table.size(this.#waiters) > 0 ? this.#turns - 1 : 0
    if (this.#turns > 0) setImmediate(() => this.#turn())
  }

  /** @param {number} ticket granted */
  #serve(ticket) {
    const waiter = table.get(this.#waiters, ticket)
    if (waiter === undefined) {
      native.cancel(this.cache.attachment, ticket)
      return
    }
    // Before anything else: what follows may run other code, which must not find the ticket here any more.
    this.#leave(ticket)
    let lease
    try {
      lease = this.#claim(ticket, waiter)
    } catch (error) {
      waiter.onError(error)
      return
    }
    waiter.onLease(lease)
  }

  /**
   * @param {number} ticket granted
   * @param {Waiter} waiter
   */
  #claim(ticket, { magazine, size, stack }) {
    const lent = native.claim(this.cache.attachment, ticket)
    // It was granted, and then the pool was closed.
    if (lent === null) throw new Closed(this.cache.name)
    // So much has been set aside meanwhile.
    if (typeof lent === 'number')
      throw new Exhausted(this.cache.name, size, this.cache.maxBytes, NEVER)
    return this.cache.leaseGranted(magazine, lent, size, stack)
  }

  /**
   * Whether anything but this thread's own code can end the first wait, and so the others; `undefined` where it has
   * to be asked again, in another turn.
   */
  #canOthersEnd() {
    const first = table.get(this.#waiters, nextKey(table.keys(this.#waiters)).value)
    return first !== undefined && this.cache.canOthersServe(first.magazine.blockSize)
  }

  #rejectAll() {
    table.forEach(
      this.#waiters,
      (/** @type {Waiter} */ { onError }, /** @type {number} */ ticket) => {
        this.#leave(ticket)
        onError(new Closed(this.cache.name))
      }
    )
  }

  /**
   * Forgets a ticket. Whether it was known.
   *
   * @param {number} ticket
   */
  #leave(ticket) {
    const isKnown = table.delete(this.#waiters, ticket)
    if (table.size(this.#waiters) === 0) {
      deleteFrom(awaited, this)
      this.#hold.letGo()
    }
    return isKnown
  }
}

closeOff(Waiting)

module.exports = { Waiting }
