'use strict'

/**
 * The columns of a thread's counters, in memory that the core reads: `src/pool/thread_counters/`. A
 * store there costs 1 ns, a call of the core a hundred. They are plain constants, since the fast
 * path uses them. `__test__/cache/constants.test.js` compares them with the core's.
 */

/** Columns of the whole thread: `Column`. */
const ENDED_ELSEWHERE_BYTES = 0
const PEAK_BYTES = 1
const UNPOOLED_COUNT = 2
const UNPOOLED_BYTES = 3
const UNPOOLED_RELEASES = 4
const LAST_ROW = 5
const LAST_SEGMENT = 6
const SEGMENTS_GONE = 7
const LAST_IS_FRESH = 8
const RECENT_PEAK_BYTES = 9
const SURPLUS_BYTES = 10

/** Columns at the head of a segment: `SegmentColumn`. */
const LEASES = 0
const BASE = 1
const ASKED_BYTES = 2
const RELEASES = 3
const MISSES = 4

/** Columns of a row, from its first: `RowColumn`. */
const STATE = 0
const SAMPLE = 1

/** States of a block: `BlockState`. JavaScript has no use for the others. */
const IDLE = 0
const LEASED = 1
const SAMPLED = 5

module.exports = {
  ASKED_BYTES,
  BASE,
  IDLE,
  LAST_IS_FRESH,
  LAST_ROW,
  LAST_SEGMENT,
  LEASED,
  LEASES,
  MISSES,
  PEAK_BYTES,
  RECENT_PEAK_BYTES,
  RELEASES,
  SAMPLE,
  SAMPLED,
  SEGMENTS_GONE,
  STATE,
  ENDED_ELSEWHERE_BYTES,
  SURPLUS_BYTES,
  UNPOOLED_BYTES,
  UNPOOLED_COUNT,
  UNPOOLED_RELEASES
}
