'use strict'

/**
 * Timers and the clock: Node's own, as they were when cistern was loaded. Other code can replace
 * the global ones: test frameworks put fakes in their place, and jsdom has timers that are numbers,
 * and no `setImmediate`. Some frameworks replace the ones in Node's module too, perhaps before
 * cistern is loaded.
 */

const { performance } = require('node:perf_hooks')
const process = require('node:process')
const timers = require('node:timers')
const { scheduler } = /** @type {any} */ (require('node:timers/promises'))
const { isNode } = require('./platform')
const { OwnPromise, closeOff, uncurry } = require('./intrinsics')

/** Returns milliseconds since some moment. No change of the system's clock affects them. */
const now = performance.now.bind(performance)

const then = uncurry(Promise.prototype.then)
const resolved = OwnPromise.resolve()

/** A delay that does not end before the timer is cleared, in milliseconds. */
const LONG = 1e6

/** Counts the timers that keep the event loop alive, as far as Node knows of them. */
function countOfTimers() {
  const isTimer = (/** @type {string} */ name) => name === 'Timeout' || name === 'Immediate'
  return process.getActiveResourcesInfo().filter(isTimer).length
}

/**
 * Tells whether the timers of Node's module are Node's own: Node counts nothing that fakes make.
 */
function areNodes() {
  try {
    const before = countOfTimers()
    const timer = timers.setTimeout(() => {}, LONG)
    const immediate = timers.setImmediate(() => {})
    const made = countOfTimers() - before
    timers.clearTimeout(timer)
    timers.clearImmediate(immediate)
    return made === 2
  } catch {
    // The count can't be read.
    return true
  }
}

/**
 * Makes timers of the methods of Node's `scheduler`. Frameworks replace those on the object, but
 * not on its class.
 *
 * @returns {Timers | undefined}
 */
function timersOfScheduler() {
  const { wait, yield: turn } = Object.getPrototypeOf(scheduler)
  if (typeof wait !== 'function' || typeof turn !== 'function') return undefined
  const waitFor = uncurry(wait)
  const nextTurn = uncurry(turn)
  const ignore = () => {}

  class Timer {
    #callback
    #delay
    #controller = new AbortController()

    /**
     * @param {() => void} callback
     * @param {number} delay
     */
    constructor(callback, delay) {
      this.#callback = callback
      this.#delay = delay
      this.#start(true)
    }

    unref() {
      this.clear()
      this.#controller = new AbortController()
      this.#start(false)
      return this
    }

    clear() {
      this.#controller.abort()
    }

    /** @param {boolean} ref whether it keeps the event loop alive */
    #start(ref) {
      const { signal } = this.#controller
      const fire = () => {
        if (!signal.aborted) this.#callback()
      }
      // The timer may also be cleared after it has fired. If it is cleared before that, the promise
      // rejects.
      then(waitFor(scheduler, this.#delay, { ref, signal }), fire, ignore)
    }
  }
  closeOff(Timer)

  class Turn {
    #callback
    /** @type {Timer | undefined} */
    #timer

    /** @param {() => void} callback */
    constructor(callback) {
      this.#callback = callback
      then(nextTurn(scheduler), () => this.#callback())
    }

    /** Replaces the turn by a timer: a turn always keeps the event loop alive. */
    unref() {
      this.#timer = new Timer(this.#callback, 1)
      this.#callback = ignore
      this.#timer.unref()
      return this
    }

    clear() {
      this.#callback = ignore
      this.#timer?.clear()
    }
  }
  closeOff(Turn)

  return /** @type {any} */ ({
    clearImmediate: (/** @type {Turn | undefined} */ turn) => turn?.clear(),
    clearTimeout: (/** @type {Timer | undefined} */ timer) => timer?.clear(),
    setImmediate: (/** @type {Function} */ callback, /** @type {unknown[]} */ ...args) =>
      new Turn(() => callback(...args)),
    setTimeout: (/** @type {() => void} */ callback, /** @type {number} */ delay) =>
      new Timer(callback, delay)
  })
}

/**
 * @typedef {'clearImmediate' | 'clearTimeout' | 'setImmediate' | 'setTimeout'} Name
 * @typedef {Pick<typeof timers, Name>} Timers
 */

/** @type {Timers} */
const found = isNode && !areNodes() ? (timersOfScheduler() ?? timers) : timers
const { clearImmediate, clearTimeout, setImmediate, setTimeout } = found

/**
 * Calls back when the current code has ended, before the event loop goes on. It uses a promise:
 * frameworks that fake everything replace `queueMicrotask` and `process.nextTick` before any module
 * is loaded.
 *
 * @param {() => void} callback that does not throw
 */
function soon(callback) {
  then(resolved, callback)
}

/**
 * Throws an error in a later turn, where nobody catches it.
 *
 * @param {unknown} error
 */
function throwUncaught(error) {
  setImmediate(() => {
    throw error
  })
}

module.exports = {
  clearImmediate,
  clearTimeout,
  now,
  setImmediate,
  setTimeout,
  soon,
  throwUncaught
}
