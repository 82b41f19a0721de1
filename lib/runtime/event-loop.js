'use strict'

/**
 * Keeps this thread's event loop alive for those who wait, while something other than the thread's own code can
 * end their wait. Nothing else does: finalizers and wakers keep no event loop alive.
 *
 * A timer does it, and looks again each time it fires. Where nothing but the thread's own code can end the wait,
 * there is no timer, and the thread ends as one that awaits what never comes. That code may still run, and hand its
 * memory to another thread as the last thing that it does: so there is one more look before the thread ends, after a
 * collection of garbage.
 */

const process = require('node:process')
const native = require('./native')
const { closeOff, table, uncurry } = require('./intrinsics')
const { clearImmediate, clearTimeout, setImmediate, setTimeout, soon } = require('./timers')

/** The time until the first look, in milliseconds. What is on its way back then has come, most often. */
const SHORTEST = 50

/** The longest time between two looks. */
const LONGEST = 1000

const addListener = uncurry(process.on)
const removeListener = uncurry(process.removeListener)

const { nextTick } = process
const { min } = Math

/**
 * Those whose waits only their own thread's code can end, as far as the last look has shown.
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
   * @param {() => boolean | undefined} look whether others can end the wait; `undefined` where it has to be asked
   *   again to tell
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

  /** The thread is about to end, and would go on if this came back to it in a later turn. */
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

/** The thread is about to end, unless another listener, or what one has awaited, sees to it that it does not. */
function lookAtAll() {
  lookAtStuck()
  // Once they all have run. An immediate would come later, but have all of them called again.
  if (table.size(stuck) > 0) nextTick(() => soon(() => nextTick(lookForTheLastTime)))
}

/** What was dropped comes back once it is collected, which nothing else would bring about any more. */
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
