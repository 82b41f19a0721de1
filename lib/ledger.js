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
const ASKED_BYTES = 1

/**
 * One class's words.
 *
 * @param {Float64Array} words the whole thread's
 * @param {number} classIndex
 */
function wordsOfClass(words, classIndex) {
  const first = classWordsAt + classIndex * wordsPerClass
  return words.subarray(first, first + wordsPerClass)
}

module.exports = {
  ASKED_BYTES,
  COLLECTED_BYTES,
  LEASES,
  PEAK_BYTES,
  UNPOOLED_BYTES,
  UNPOOLED_COUNT,
  UNPOOLED_RELEASES,
  wordsOfClass
}
