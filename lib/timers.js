'use strict'

/**
 * Timers and the clock: Node's own, as they were when cistern was loaded. The global ones are anyone's: frameworks for
 * tests put fakes in their place, and jsdom has timers that are numbers, and no `setImmediate`.
 */

const { performance } = require('node:perf_hooks')
const { clearImmediate, clearTimeout, setImmediate, setTimeout } = require('node:timers')
const { OwnPromise, uncurry } = require('./runtime')

/** Milliseconds since some moment; no setting of the system's clock changes them. */
const now = performance.now.bind(performance)

const then = uncurry(Promise.prototype.then)
const resolved = OwnPromise.resolve()

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
