'use strict'

/** Which block size serves which request. See `src/memory/size_class.rs`, which decides it. */

const native = require('../runtime/native')

const { blockSizes, maxBlockSize } = native.layout()
const { clz32 } = Math

/**
 * The index of the smallest class whose blocks hold `size` bytes.
 *
 * @param {number} size whole, from 1 to `maxBlockSize`
 */
function classOf(size) {
  const last = size - 1
  // 64 bytes apart up to 256, then four classes in each doubling.
  if (last < 256) return last >> 6
  const doubling = 31 - clz32(last)
  return (doubling << 2) - 32 + (last >> (doubling - 2))
}

module.exports = { blockSizes, classOf, maxBlockSize }
