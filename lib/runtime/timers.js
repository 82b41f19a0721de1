'use strict'

/**
 * Timers and the clock: Node's own, as they were when cistern was loaded. The global ones are anyone's: frameworks for
 * tests put fakes in their place, and jsdom has timers that are numbers, and no `setImmediate`. Some frameworks put
 * theirs into Node's module, too, perhaps before cistern is loaded.
 */

const { performance } = require('node:perf_hooks')
const process = require('node:process')
const timers = require('node:timers')
const { scheduler } = /** @type {any} */ (require('node:timers/promises'))
const { isNode } = require('./platform')
const { OwnPromise, closeOff, uncurry } = require('./intrinsics')

/** Milliseconds since some moment; no setting of the system's clock changes them. */
const now = performance.now.bind(performance)

const then = uncurry(Promise.prototype.then)
const resolved = OwnPromise.resolve()

/** So long that it does not fire before it is cleared, in milliseconds. */
const LONG = 1e6

/** Node's timers that keep the event loop alive, as Node counts them. */
function countOfTimers() {
  const isTimer = (/** @type {string} */ name) => name === 'Timeout' || name === 'Immediate'
  return process.getActiveResourcesInfo().filter(isTimer).length
}

/** Whether Node knows of what its module for timers makes: fakes make nothing that Node would count. */
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
    // Nothing tells.
    return true
  }
}

/**
 * Timers by the methods of Node's `scheduler`, whose class no framework replaces: each puts its own on the object.
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
      // It may be cleared once it has fired, too. What is cleared before rejects.
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

    /** Goes on by a timer: a turn always keeps the event loop alive. */
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

/** @typedef {Pick<typeof timers, 'clearImmediate' | 'clearTimeout' | 'setImmediate' | 'setTimeout'>} Timers */

/** @type {Timers} */
const found = isNode && !areNodes() ? (timersOfScheduler() ?? timers) : timers
const { clearImmediate, clearTimeout, setImmediate, setTimeout } = found

/**
 * Calls back once the code that runs now has ended, before the event loop goes on. It takes a promise, because
 * frameworks that are set to fake everything have replaced `queueMicrotask` and `process.nextTick` before any module
 * is loaded.
 *
 * @param {() => void} callback that does not throw
 */
function soon(callback) {
  then(resolved, callback)
}

/**
 * Throws an error where nobody catches it.
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
