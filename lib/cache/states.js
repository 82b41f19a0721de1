'use strict'

/**
 * Names for the small numbers that cross the boundary to the addon, which
 * `__test__/cache/constants.test.js` compares.
 */

const { freeze } = require('../runtime/intrinsics')

/** The fate of a block after its ArrayBuffer is detached: `Fate` in `src/pool/attachment.rs`. */
const Fate = freeze({
  __proto__: null,
  /** The depot stores it. */
  STORE: 0,
  /** It is freed. */
  FREE: 1,
  /** It is freed, and counted as discarded: its user does not want the pool to store it. */
  DISCARD: 2
})

/** A thread's task at the end of an interval: `Tick` in `src/pool/thread_state.rs`. */
const Tick = freeze({
  __proto__: null,
  /** Nothing: the interval goes on. */
  NONE: 0,
  /** Report whether anything is idle. */
  LOOK: 1,
  /** Also free the blocks that it has not needed since the last tick. */
  FREE: 2,
  /** Also free these blocks, because memory runs short. */
  FREE_UNDER_PRESSURE: 3
})

/**
 * The core's knowledge of an ArrayBuffer without a slot of this thread: `RemoteState` in
 * `src/binding/remote.rs`.
 */
const RemoteState = freeze({
  __proto__: null,
  /** The pool does not know it. */
  UNKNOWN: -1,
  /** Its memory was released. */
  RELEASED: 0,
  /** It has a leased block. */
  LEASED: 1,
  /** It has memory of V8's that the pool leased. */
  LEASED_UNPOOLED: 2
})

module.exports = { Fate, RemoteState, Tick }
