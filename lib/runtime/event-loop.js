'use strict'

/**
 * Keeps this thread's event loop alive for requests that wait, as long as something other than the
 * thread's own code can end their wait. Nothing else does: finalizers and wakers keep no event loop
 * alive.
 *
 * A timer does it, and looks again each time it fires. If nothing but the thread's own code can end
 * the wait, there is no timer, and the thread ends as with any `await` that never settles. The
 * thread's code may still run, and post its memory to another thread at the very end. So this looks
 * once more before the thread ends, after a garbage collection.
 *
 * - It MUST NOT keep an event loop alive that only its own thread's code can help.
 * - The looks at `beforeExit` MUST come after all other listeners, and what those have awaited.
 *
 * Collaborators: the core (`runtime/native`: garbage collection), the timers.
 */

const process = require('node:process')
const native = require('./native')
const { closeOff, table, uncurry } = require('./intrinsics')
const { clearImmediate, clearTimeout, setImmediate, setTimeout, soon } = require('./timers')

/**
 * The time until the first look, in milliseconds. By then most blocks that were about to return
 * have arrived.
 */
const SHORTEST = 50

/** The longest time between two looks, in milliseconds. */
const LONGEST = 1000

const addListener = uncurry(process.on)
const removeListener = uncurry(process.removeListener)

const { nextTick } = process
const { min } = Math

/**
 * The holds whose waits only this thread's own code can end, as far as the last look has shown.
 *
 * @type {Map<EventLoopHold, true>}
 */
const stuck = new Map()

class EventLoopHold {
  #look
  #isHolding = false
  #delay = SHORTEST
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  /** @type {ReturnType<typeof setImmediate> | undefined} */
  #immediate

  /**
   * @param {() => boolean | undefined} look tells whether others can end the wait; `undefined`: ask
   *   again in a later turn
   */
  constructor(look) {
    this.#look = look
  }

  /** Begins to keep the event loop alive. */
  start() {
    if (this.#isHolding) return
    this.#isHolding = true
    this.#delay = SHORTEST
    this.#arm()
  }

  /** Stops keeping it alive. */
  stop() {
    if (!this.#isHolding) return
    this.#isHolding = false
    clearTimeout(this.#timer)
    clearImmediate(this.#immediate)
    this.#timer = undefined
    this.#immediate = undefined
    leaveStuck(this)
  }

  #arm() {
    this.#timer = setTimeout(this.#lookAgain, this.#delay)
    this.#delay = min(2 * this.#delay, LONGEST)
  }

  #lookAgain = () => {
    if (!this.#isHolding) return
    const canEnd = this.#look()
    if (canEnd === undefined) {
      this.#immediate = setImmediate(this.#lookAgain)
    } else if (canEnd) {
      this.#arm()
    } else {
      this.#timer = undefined
      joinStuck(this)
    }
  }

  /**
   * Finishes the look in this turn: the thread is about to end, and a later turn would keep it
   * alive.
   */
  lookOnceMore() {
    let canEnd = this.#look()
    while (canEnd === undefined) canEnd = this.#look()
    if (!canEnd) return
    leaveStuck(this)
    this.#arm()
  }
}

closeOff(EventLoopHold)

/** @param {EventLoopHold} hold */
function joinStuck(hold) {
  if (table.size(stuck) === 0) addListener(process, 'beforeExit', lookAtAll)
  table.set(stuck, hold, true)
}

/** @param {EventLoopHold} hold */
function leaveStuck(hold) {
  if (table.delete(stuck, hold) && table.size(stuck) === 0) {
    removeListener(process, 'beforeExit', lookAtAll)
  }
}

/** Looks at all of them when the thread is about to end, unless another listener keeps it alive. */
function lookAtAll() {
  lookAtStuck()
  // Looks again after all listeners have run, and after the promises that they await. With an
  // immediate, Node would call all listeners again.
  if (table.size(stuck) > 0) nextTick(() => soon(() => nextTick(lookForTheLastTime)))
}

/**
 * Collects garbage, because no collection would follow, and looks at the blocks that return.
 */
function lookForTheLastTime() {
  if (table.size(stuck) === 0) return
  native.collectGarbage()
  lookAtStuck()
}

function lookAtStuck() {
  table.forEach(stuck, lookAt)
}

/**
 * @param {true} _
 * @param {EventLoopHold} hold
 */
function lookAt(_, hold) {
  hold.lookOnceMore()
}

module.exports = { EventLoopHold }
