'use strict'

/**
 * What a pool learns from the lengths of the buffers that are released to it: with which size to begin,
 * and from which size on not to keep.
 *
 * The algorithm is bytebufferpool's (github.com/valyala/bytebufferpool, `Pool.calibrate`), with the
 * pool's size classes for its bins, which are powers of two.
 */

const { blockSizes, classOf } = require('./size-class')

/** How many releases make a calibration. */
const RELEASES = 42_000

/** Of the releases, the share whose blocks are kept; the rarest, larger ones are not. */
const KEPT_SHARE = 0.95

class Calibration {
  /** With how many bytes to begin, as long as nothing is known. */
  firstSize = 1024
  /** Blocks larger than this are not kept, in bytes. */
  largestKept = Infinity
  /** Releases of each class, since the last calibration. */
  #counts = new Uint32Array(blockSizes.length)
  #left = RELEASES

  /**
   * Learns that so many bytes were in a buffer when it was released.
   *
   * @param {number} length
   */
  note(length) {
    if (length > 0 && length <= blockSizes[blockSizes.length - 1]) this.#counts[classOf(length)]++
    if (--this.#left === 0) this.#calibrate()
  }

  #calibrate() {
    const counts = this.#counts
    const used = Array.from(counts.keys()).filter((index) => counts[index] > 0)
    const total = used.reduce((sum, index) => sum + counts[index], 0)
    const commonestFirst = used.sort((a, b) => counts[b] - counts[a])
    let seen = 0
    let largest = 0
    for (const index of commonestFirst) {
      if (seen > total * KEPT_SHARE) break
      seen += counts[index]
      largest = Math.max(largest, blockSizes[index])
    }
    if (total > 0) {
      this.firstSize = blockSizes[commonestFirst[0]]
      this.largestKept = largest
    }
    counts.fill(0)
    this.#left = RELEASES
  }
}

module.exports = { Calibration }
