'use strict'

/**
 * How large a block the bytes of a body get.
 *
 * A length that a client announces costs it nothing, so memory follows the bytes that have arrived: a body and
 * the block that it moves to MUST NOT hold more than `FACTOR` times those together, or `FLOOR`.
 */

const { blockSizes, classOf } = require('../cache/size-class')

const { ceil, max, min } = Math

/** A body may hold so many bytes, however few have arrived: 64 KiB, about one read of a socket. */
const FLOOR = 64 * 1024

/** A body may hold so many times the bytes that have arrived. */
const FACTOR = 4

/** The first block of a body of unknown length: 16 KiB. */
const FIRST_BYTES = 16 * 1024

/** The factor between a block and its successor, where the length is unknown. */
const GROWTH = 2

/**
 * The factor between the blocks of a body that announces its length, the last of which fits it. A block that is
 * full leaves room under `FACTOR` for one three times as large, and larger steps copy fewer bytes.
 */
const STEP = FACTOR - 1

/**
 * Returns the size to ask for before the first byte has arrived; 0 where the first bytes decide.
 *
 * @param {number | undefined} announced
 * @param {number} limit
 */
function firstSize(announced, limit) {
  if (announced === undefined) return min(FIRST_BYTES, limit)
  return announced <= FLOOR ? announced : 0
}

/**
 * Returns the size to ask for when a body no longer fits its block.
 *
 * @param {object} body
 * @param {number} body.arrived bytes
 * @param {number} body.held the size of its block; 0 where it has none
 * @param {number | undefined} body.announced
 * @param {number} body.limit
 * @param {number} body.largest the pool's largest block
 */
function nextSize({ arrived, held, announced, limit, largest }) {
  if (announced === undefined) return min(max(arrived, GROWTH * held), limit)
  const room = max(FLOOR, FACTOR * arrived) - held
  let size = announced
  while (size > arrived && blockSizeOf(size, largest) > room) size = ceil(size / STEP)
  return max(size, arrived)
}

/**
 * @param {number} size
 * @param {number} largest
 */
function blockSizeOf(size, largest) {
  // V8 serves larger ones, to the byte.
  return size > largest ? size : blockSizes[classOf(size)]
}

module.exports = { firstSize, nextSize }
