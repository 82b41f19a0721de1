'use strict'

/**
 * Where this thread's figures stand in memory that the core reads: see `src/pool/thread_counters/`. A
 * store there costs 1 ns, a call a hundred.
 */

/** Words of the whole thread, as `Column` in `src/pool/thread_counters/` numbers them. */
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

/** Words at the head of a segment, as `SegmentColumn` numbers them. */
const LEASES = 0
const BASE = 1
const ASKED_BYTES = 2
const RELEASES = 3
const MISSES = 4

/** Words of one row, counted from its first, as `RowColumn` numbers them. */
const STATE = 0
const SAMPLE = 1

/** What a block does, as `BlockState` numbers it. */
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
