'use strict'

/**
 * Where this thread's figures stand in memory that the core reads: see `src/pool/ledger/`. A
 * store there costs 1 ns, a call a hundred.
 */

/** Words of the whole thread, as `Word` in `src/pool/ledger.rs` numbers them. */
const STRAY_BYTES = 0
const PEAK_BYTES = 1
const UNPOOLED_COUNT = 2
const UNPOOLED_BYTES = 3
const UNPOOLED_RELEASES = 4
const LAST_SEAT = 5
const LAST_SEGMENT = 6
const SEGMENTS_GONE = 7
const LAST_IS_FRESH = 8
const RECENT_PEAK_BYTES = 9
const SURPLUS_BYTES = 10

/** Words at the head of a segment, as `HeadWord` numbers them. */
const LEASES = 0
const BASE = 1
const ASKED_BYTES = 2
const RELEASES = 3
const MISSES = 4

/** Words of one seat, counted from its first, as `SeatWord` numbers them. */
const STATE = 0
const SAMPLE = 1

/** What a block does, as `SeatState` numbers it. */
const IDLE = 0
const LEASED = 1
const SAMPLED = 5

module.exports = {
  ASKED_BYTES,
  BASE,
  IDLE,
  LAST_IS_FRESH,
  LAST_SEAT,
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
  STRAY_BYTES,
  SURPLUS_BYTES,
  UNPOOLED_BYTES,
  UNPOOLED_COUNT,
  UNPOOLED_RELEASES
}
