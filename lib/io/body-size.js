'use strict'

/**
 * The size of the block that the bytes of a body get.
 *
 * A client announces any length for free. So memory follows the bytes that have arrived: a body and
 * the block that it moves to together MUST NOT hold more than `FACTOR` times those, or `FLOOR`.
 */

const { blockSizes, classOf } = require('../cache/size-class')

const { ceil, max, min } = Math

/** The bytes that any body may hold: 64 KiB, about one read of a socket. */
const FLOOR = 64 * 1024

/** The factor between the bytes that have arrived and those that a body may hold. */
const FACTOR = 4

/** The first block of a body of unknown length: 16 KiB. */
const FIRST_BYTES = 16 * 1024

/** The factor between a block and its successor, where the length is unknown. */
const GROWTH = 2

/**
 * The factor between the blocks of a body that announces its length; the last block fits it. A full
 * block leaves room under `FACTOR` for one three times as large, and larger steps copy fewer bytes.
 */
const STEP = FACTOR - 1

/**
 * Returns the size to request before the first byte has arrived; 0 where the first bytes decide.
 *
 * @param {number | undefined} announced
 * @param {number} limit
 */
function firstSize(announced, limit) {
  if (announced === undefined) return min(FIRST_BYTES, limit)
  return announced <= FLOOR ? announced : 0
}

/**
 * Returns the size to request when a body no longer fits its block.
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
  // V8 serves larger ones, with exactly that size.
  return size > largest ? size : blockSizes[classOf(size)]
}

module.exports = { firstSize, nextSize }
