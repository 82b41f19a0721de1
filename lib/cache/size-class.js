'use strict'

/** Finds the size class that serves a request. `src/memory/size_class.rs` decides which that is. */

const native = require('../runtime/native')

const { blockSizes, maxBlockSize } = native.layout()
const { clz32 } = Math

/**
 * Returns the index of the smallest class whose blocks hold `size` bytes.
 *
 * @param {number} size whole, from 1 to `maxBlockSize`
 */
function classOf(size) {
  const last = size - 1
  // The classes are 64 bytes apart up to 256 bytes; then each doubling has four.
  if (last < 256) return last >> 6
  const doubling = 31 - clz32(last)
  return (doubling << 2) - 32 + (last >> (doubling - 2))
}

module.exports = { blockSizes, classOf, maxBlockSize }
