'use strict'

/**
 * Reads the statistics from an array that the addon fills, in an order that
 * `__test__/cache/constants.test.js` checks.
 *
 * Each object is a literal, whose shape V8 stores with the code. The shapes of an object that is
 * built property by property die at the next garbage collection, and V8 makes them again in the old
 * generation.
 */

const native = require('../runtime/native')
const { Floats, freeze, isExternal, listOf } = require('../runtime/intrinsics')
const { blockSizes } = require('../cache/size-class')

/** The figures of all classes come first: `Figures` in `src/pool/stats.rs`. */
const FIGURES = 15

/** The figures that only the pool as a whole has follow. */
const PEAK_IN_USE_BYTES = FIGURES
const UNPOOLED_COUNT = FIGURES + 1
const WAIT_COUNT = FIGURES + 2
const OVERHEAD_BYTES = FIGURES + 3
const WAITING_COUNT = FIGURES + 4
const LONGEST_WAIT_MS = FIGURES + 5

/** Each class that was used follows: its block size and its figures. */
const CLASSES = FIGURES + 6
const CLASS_WORDS = 1 + FIGURES

const words = new Floats(CLASSES + blockSizes.length * CLASS_WORDS)

/**
 * Reads the statistics of a pool.
 *
 * @param {{ attachment: import('../runtime/native').Attachment, name: string, maxBytes: number }}
 *   pool
 * @returns {import('../..').PoolStats} of all threads together
 */
function readStats({ attachment, name, maxBytes }) {
  const count = native.stats(attachment, words)
  // All pools share the array: no other code may run until it is read.
  const classes = listOf(count, (index) => classAt(CLASSES + index * CLASS_WORDS))
  return freeze({
    name,
    inUseCount: words[0],
    inUseBytes: words[1],
    idleCount: words[2],
    idleBytes: words[3],
    allocCount: words[4],
    allocBytes: words[5],
    freshCount: words[6],
    freshBytes: words[7],
    hitCount: words[8],
    missCount: words[9],
    releaseCount: words[10],
    collectedCount: words[11],
    discardCount: words[12],
    freedBytes: words[13],
    quarantinedBytes: words[14],
    peakInUseBytes: words[PEAK_IN_USE_BYTES],
    unpooledCount: words[UNPOOLED_COUNT],
    waitCount: words[WAIT_COUNT],
    waitingCount: words[WAITING_COUNT],
    longestWaitMs: words[LONGEST_WAIT_MS],
    overheadBytes: words[OVERHEAD_BYTES],
    maxBytes,
    external: isExternal,
    classes: freeze(classes)
  })
}

/** @param {number} at */
function classAt(at) {
  return freeze({
    blockSize: words[at],
    inUseCount: words[at + 1],
    inUseBytes: words[at + 2],
    idleCount: words[at + 3],
    idleBytes: words[at + 4],
    allocCount: words[at + 5],
    allocBytes: words[at + 6],
    freshCount: words[at + 7],
    freshBytes: words[at + 8],
    hitCount: words[at + 9],
    missCount: words[at + 10],
    releaseCount: words[at + 11],
    collectedCount: words[at + 12],
    discardCount: words[at + 13],
    freedBytes: words[at + 14],
    quarantinedBytes: words[at + 15]
  })
}

module.exports = { readStats }
