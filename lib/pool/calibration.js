'use strict'

/**
 * What a pool learns from the lengths of the buffers that are released to it: with which size to begin,
 * and from which size on not to keep.
 *
 * The algorithm is bytebufferpool's (github.com/valyala/bytebufferpool, `Pool.calibrate`), with the
 * pool's size classes for its bins, which are powers of two.
 */

const { blockSizes, classOf } = require('../cache/size-class')

/** How many releases make a calibration. */
const RELEASES = 42_000

/** Of the releases, the share whose blocks are kept; the rarest, larger ones are not. */
const KEPT_SHARE = 0.95

const LARGEST = blockSizes[blockSizes.length - 1]

const { max } = Math

class Calibration {
  /** With how many bytes to begin, as long as nothing is known. */
  firstSize = 1024
  /** Blocks larger than this are not kept, in bytes. */
  largestKept = Infinity
  /** Releases by the class of what was written, and of what was wanted, since the last calibration. */
  #written = new Uint32Array(blockSizes.length)
  #wanted = new Uint32Array(blockSizes.length)
  #left = RELEASES

  /**
   * Learns that so many bytes were in a buffer when it was released.
   *
   * @param {number} length
   * @param {number} hint how many its user had expected: who asks for a size wants it kept
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
    if (wanted.length > 0) this.largestKept = largestOf(wanted, this.#wanted)
    this.#written.fill(0)
    this.#wanted.fill(0)
    this.#left = RELEASES
  }
}

/**
 * The classes that were counted.
 *
 * @param {Uint32Array} counts
 */
function commonestFirst(counts) {
  const used = Array.from(counts.keys()).filter((index) => counts[index] > 0)
  return used.sort((a, b) => counts[b] - counts[a])
}

/**
 * The largest block of the commonest that make up the share that is kept.
 *
 * @param {number[]} classes commonest first
 * @param {Uint32Array} counts
 */
function largestOf(classes, counts) {
  const total = classes.reduce((sum, index) => sum + counts[index], 0)
  let seen = 0
  let largest = 0
  for (const index of classes) {
    if (seen > total * KEPT_SHARE) break
    seen += counts[index]
    largest = max(largest, blockSizes[index])
  }
  return largest
}

module.exports = { Calibration }
