'use strict'

/**
 * Learns from the lengths of released growable buffers: the size of a first block, and the largest
 * block that is worth storing.
 *
 * The algorithm is bytebufferpool's (github.com/valyala/bytebufferpool, `Pool.calibrate`), with the
 * pool's size classes as its bins, which are powers of two there.
 */

const { blockSizes, classOf } = require('../cache/size-class')

/** The number of releases between two calibrations. */
const RELEASES = 42_000

/** The share of the releases whose blocks are stored. The rarest sizes are the others. */
const STORED_SHARE = 0.95

const LARGEST = blockSizes[blockSizes.length - 1]

const { max } = Math

class Calibration {
  /** The bytes of a first block. This is the size before the first calibration. */
  firstSize = 1024
  /** Larger blocks than this, in bytes, are freed. */
  largestStored = Infinity
  /**
   * Counts releases since the last calibration, by the size class of the bytes written, and of the
   * bytes that the user expected.
   */
  #written = new Uint32Array(blockSizes.length)
  #wanted = new Uint32Array(blockSizes.length)
  #left = RELEASES

  /**
   * Notes the release of a buffer.
   *
   * @param {number} length the bytes written
   * @param {number} hint the bytes that its user had expected: a size that users ask for is worth
   *   storing
   */
  note(length, hint) {
    const wanted = max(length, hint)
    if (wanted <= LARGEST) {
      if (length > 0) this.#written[classOf(length)]++
      if (wanted > 0) this.#wanted[classOf(wanted)]++
    }
    if (--this.#left === 0) this.#calibrate()
  }

  #calibrate() {
    const [commonest] = commonestFirst(this.#written)
    if (commonest !== undefined) this.firstSize = blockSizes[commonest]
    const wanted = commonestFirst(this.#wanted)
    if (wanted.length > 0) this.largestStored = largestOf(wanted, this.#wanted)
    this.#written.fill(0)
    this.#wanted.fill(0)
    this.#left = RELEASES
  }
}

/**
 * Returns the classes with a count, the commonest first.
 *
 * @param {Uint32Array} counts
 */
function commonestFirst(counts) {
  const used = Array.from(counts.keys()).filter((index) => counts[index] > 0)
  return used.sort((a, b) => counts[b] - counts[a])
}

/**
 * Returns the largest block size among the commonest classes that make up the stored share.
 *
 * @param {number[]} classes commonest first
 * @param {Uint32Array} counts
 */
function largestOf(classes, counts) {
  const total = classes.reduce((sum, index) => sum + counts[index], 0)
  let seen = 0
  let largest = 0
  for (const index of classes) {
    if (seen > total * STORED_SHARE) break
    seen += counts[index]
    largest = max(largest, blockSizes[index])
  }
  return largest
}

module.exports = { Calibration }
