'use strict'

/**
 * Where this thread's figures stand in memory that the core reads: see `src/pool/ledger.rs`. A
 * store there costs 1 ns, a call a hundred.
 */

/** Words of the whole thread, as `Word` in `src/pool/ledger.rs` numbers them. */
const STRAY_BYTES = 0
const PEAK_BYTES = 1
const UNPOOLED_COUNT = 2
const UNPOOLED_BYTES = 3
const UNPOOLED_RELEASES = 4
const LAST_SEAT = 5

/** Words of one seat, counted from its first, as `SeatWord` numbers them. */
const STATE = 0
const LEASES = 1
const ASKED_BYTES = 2
const BASE = 3
const SAMPLE = 4

/** What a block does, as `SeatState` numbers it. */
const IDLE = 0
const LEASED = 1
const SAMPLED = 5

module.exports = {
  ASKED_BYTES,
  BASE,
  IDLE,
  LAST_SEAT,
  LEASED,
  LEASES,
  PEAK_BYTES,
  SAMPLE,
  SAMPLED,
  STATE,
  STRAY_BYTES,
  UNPOOLED_BYTES,
  UNPOOLED_COUNT,
  UNPOOLED_RELEASES
}
