'use strict'

/**
 * This thread's counters, in memory that the core reads: see `src/pool/ledger.rs`. A store here
 * costs 1 to 2 ns, a call a hundred.
 */

const native = require('./native')

const { classWordsAt, wordsPerClass } = native.layout()

/** Words of the whole thread, as `Word` in `src/pool/ledger.rs` numbers them. */
const COLLECTED_BYTES = 0
const PEAK_BYTES = 1
const UNPOOLED_COUNT = 2
const UNPOOLED_BYTES = 3
const UNPOOLED_RELEASES = 4

/** Words of one class, counted from its first, as `ClassWord` numbers them. */
const LEASES = 0
const RELEASES = 1
const ASKED_BYTES = 2

/**
 * Where a class's words begin.
 *
 * @param {number} classIndex
 */
const classWord = (classIndex) => classWordsAt + classIndex * wordsPerClass

module.exports = {
  ASKED_BYTES,
  COLLECTED_BYTES,
  LEASES,
  PEAK_BYTES,
  RELEASES,
  UNPOOLED_BYTES,
  UNPOOLED_COUNT,
  UNPOOLED_RELEASES,
  classWord
}
