'use strict'

/**
 * The requests of one thread that wait for memory. The core decides, across all threads, which one
 * is served next: `src/pool/waiters.rs`.
 *
 * - Every ticket MUST be served, rejected or cancelled, and only once.
 * - A ticket MUST be removed before other code runs, which must not find it here any more.
 * - As long as a request waits, this MUST be reachable (`awaited`): nothing else holds it.
 *
 * Collaborators: the core (`runtime/native`), `ThreadUsage`, `LeasedElsewhere`, `EventLoopHold`.
 * `leaseGranted` makes the lease of a granted block.
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
 * @property {string | undefined} stack of the call, if the lease is to be sampled
 * @property {(lease: import('../pool/lease').Lease) => void} onLease called when the block is
 *   leased, unless the wait is cancelled
 * @property {(reason: unknown) => void} onError called when there will be none, unless the wait is
 *   cancelled
 */

/**
 * The event-loop turns in which memory that was given up reaches a waiting request, if finalizers
 * return it: one for the finalizer, one for the wake that follows, and some more.
 */
const TURNS = 8

/**
 * Objects with a waiting request. Nothing else holds them, and the garbage collector must not take
 * them.
 */
const awaited = new Set()

class Waiting {
  #usage
  #elsewhere
  #leaseGranted
  /** @type {Map<number, Waiter>} */
  #waiters = new Map()
  /** The number of turns for which the event loop goes on in any case. */
  #turns = 0
  #hold = new EventLoopHold(() => this.#canOthersEnd())

  /**
   * @param {import('./thread-usage').ThreadUsage} usage
   * @param {import('./leased-elsewhere').LeasedElsewhere} elsewhere
   * @param {(waiter: Waiter, lent: import('../runtime/native').Lent) =>
   *   import('../pool/lease').Lease} leaseGranted
   */
  constructor(usage, elsewhere, leaseGranted) {
    this.#usage = usage
    this.#elsewhere = elsewhere
    this.#leaseGranted = leaseGranted
  }

  /** True if no request of this thread waits. */
  get isEmpty() {
    return table.size(this.#waiters) === 0
  }

  /**
   * Joins the queue.
   *
   * @param {Waiter} waiter
   * @returns {number} its ticket
   */
  wait(waiter) {
    const ticket = native.wait(this.#usage.attachment, waiter.magazine.index)
    table.set(this.#waiters, ticket, waiter)
    addTo(awaited, this)
    this.#hold.start()
    return ticket
  }

  /**
   * Leaves the queue.
   *
   * @param {number} ticket
   * @returns {boolean} false if the ticket did not wait any more
   */
  cancel(ticket) {
    if (!this.#remove(ticket)) return false
    native.cancel(this.#usage.attachment, ticket)
    // Another request of this thread may get the memory that was freed for this one.
    this.collect()
    return true
  }

  /** Serves the requests that the core has granted a block. */
  collect() {
    // This runs even if no request is known to wait: code that `vm` ends during a call may leave a
    // ticket behind.
    for (;;) {
      const ticket = native.granted(this.#usage.attachment)
      if (ticket === null) break
      this.#serve(ticket)
    }
    if (!this.isEmpty && this.#usage.isClosed) this.#rejectAll()
    if (!this.isEmpty) this.#goOn()
  }

  /**
   * Keeps the event loop turning for a while, because finalizers may return memory in these turns.
   * The timer that keeps the event loop alive would fire too late for that.
   */
  #goOn() {
    const goesOn = this.#turns > 0
    this.#turns = TURNS
    if (!goesOn) setImmediate(() => this.#turn())
  }

  #turn() {
    this.#turns = this.isEmpty ? 0 : this.#turns - 1
    if (this.#turns > 0) setImmediate(() => this.#turn())
  }

  /** @param {number} ticket granted */
  #serve(ticket) {
    const waiter = table.get(this.#waiters, ticket)
    if (waiter === undefined) {
      native.cancel(this.#usage.attachment, ticket)
      return
    }
    this.#remove(ticket)
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
  #claim(ticket, waiter) {
    const { attachment, name, maxBytes } = this.#usage
    const lent = native.claim(attachment, ticket)
    // The pool was closed after the grant.
    if (lent === null) throw new Closed(name)
    // Too much memory has gone into quarantine meanwhile.
    if (typeof lent === 'number') throw new Exhausted(name, waiter.size, maxBytes, NEVER)
    return this.#leaseGranted(waiter, lent)
  }

  /**
   * Tells whether anything but this thread's own code can end the first wait, and so the others.
   *
   * @returns {boolean | undefined} `undefined` if the look has to go on in another turn: ask again
   */
  #canOthersEnd() {
    const first = table.get(this.#waiters, nextKey(table.keys(this.#waiters)).value)
    return first !== undefined && this.#elsewhere.canServe(first.magazine.blockSize)
  }

  #rejectAll() {
    table.forEach(
      this.#waiters,
      (/** @type {Waiter} */ { onError }, /** @type {number} */ ticket) => {
        this.#remove(ticket)
        onError(new Closed(this.#usage.name))
      }
    )
  }

  /**
   * Forgets a ticket.
   *
   * @param {number} ticket
   * @returns {boolean} whether it was known
   */
  #remove(ticket) {
    const isKnown = table.delete(this.#waiters, ticket)
    if (this.isEmpty) {
      deleteFrom(awaited, this)
      this.#hold.stop()
    }
    return isKnown
  }
}

closeOff(Waiting)

module.exports = { Waiting }
