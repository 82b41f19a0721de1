'use strict'

/**
 * The leases of one thread that wait for memory. Who comes when, across all threads, the core decides:
 * see `src/pool/waiters.rs`.
 */

const { setImmediate } = require('node:timers')
const native = require('./native')
const { Abort, Closed, Exhausted, NEVER } = require('./errors')
const { OwnPromise, addTo, deleteFrom, table } = require('./runtime')

/**
 * @typedef {object} Waiter
 * @property {import('./magazine').Magazine} magazine
 * @property {number} size
 * @property {AbortSignal | undefined} signal
 * @property {() => void} abort
 * @property {string | undefined} stack where the lease was asked for, if it is a sampled one
 * @property {(buffer: Buffer) => void} resolve
 * @property {(reason: unknown) => void} reject
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

  /**
   * @param {import('./rack').Rack} rack
   */
  constructor(rack) {
    this.rack = rack
  }

  /** Whether nobody waits in this thread. */
  get isEmpty() {
    return this.#waiters.size === 0
  }

  /**
   * Stands in line.
   *
   * @param {import('./magazine').Magazine} magazine
   * @param {number} size
   * @param {AbortSignal | undefined} signal not aborted yet
   * @param {string | undefined} stack
   * @returns {Promise<Buffer>}
   */
  wait(magazine, size, signal, stack) {
    return new OwnPromise((resolve, reject) => {
      let ticket = 0
      let isAborted = false
      const abort = () => {
        isAborted = true
        native.cancel(this.rack.attachment, ticket)
        this.#leave(ticket)
        reject(new Abort(signal?.reason))
        // What was freed for this one may be another's of this thread.
        this.collect()
      }
      // First, because it may throw: the signal is the user's.
      signal?.addEventListener('abort', abort)
      // A signal of the user's may have told of it already. Then nobody waits.
      if (isAborted) return
      ticket = native.wait(this.rack.attachment, magazine.index)
      table.set(this.#waiters, ticket, { magazine, size, signal, abort, stack, resolve, reject })
      addTo(awaited, this)
    })
  }

  /** Hands out what was granted to this thread. */
  collect() {
    while (this.#waiters.size > 0) {
      const ticket = native.granted(this.rack.attachment)
      if (ticket === null) break
      this.#serve(ticket)
    }
    if (this.#waiters.size > 0 && this.rack.isClosed) this.#rejectAll()
    if (this.#waiters.size > 0) this.#goOn()
  }

  /**
   * Has the event loop go on for a while. Memory that was given up may be on its way: finalizers don't keep the
   * event loop alive, and a program with nothing else to do would end before it is served.
   */
  #goOn() {
    const goesOn = this.#turns > 0
    this.#turns = TURNS
    if (!goesOn) setImmediate(() => this.#turn())
  }

  #turn() {
    this.#turns = this.#waiters.size > 0 ? this.#turns - 1 : 0
    if (this.#turns > 0) setImmediate(() => this.#turn())
  }

  /** @param {number} ticket granted */
  #serve(ticket) {
    const waiter = table.get(this.#waiters, ticket)
    if (waiter === undefined) {
      native.cancel(this.rack.attachment, ticket)
      return
    }
    try {
      const buffer = this.#claim(ticket, waiter)
      // Only now: it calls the signal, which is the user's, and may lead here again.
      this.#leave(ticket)
      waiter.resolve(buffer)
    } catch (error) {
      this.#leave(ticket)
      waiter.reject(error)
    }
  }

  /**
   * @param {number} ticket granted
   * @param {Waiter} waiter
   */
  #claim(ticket, { magazine, size, stack }) {
    const lent = native.claim(this.rack.attachment, ticket)
    // It was granted, and then the pool was closed.
    if (lent === null) throw new Closed(this.rack.name)
    // So much has been set aside meanwhile.
    if (typeof lent === 'number')
      throw new Exhausted(this.rack.name, size, this.rack.maxBytes, NEVER)
    return this.rack.leaseGranted(magazine, lent, size, stack)
  }

  #rejectAll() {
    table.forEach(
      this.#waiters,
      (/** @type {Waiter} */ { reject }, /** @type {number} */ ticket) => {
        this.#leave(ticket)
        reject(new Closed(this.rack.name))
      }
    )
  }

  /**
   * Forgets a ticket.
   *
   * @param {number} ticket
   */
  #leave(ticket) {
    const waiter = table.get(this.#waiters, ticket)
    table.delete(this.#waiters, ticket)
    if (this.#waiters.size === 0) deleteFrom(awaited, this)
    try {
      waiter?.signal?.removeEventListener('abort', waiter.abort)
    } catch {
      // The signal is the user's; a release, perhaps of someone else's, goes on.
    }
  }
}

module.exports = { Waiting }
