'use strict'

/**
 * The segments of one thread's counters, as JavaScript sees their memory.
 *
 * A segment goes when it is empty, and another may get its number: its name tells them apart. The
 * core keeps the memory of one that has gone until `forgetGone` drops its array.
 *
 * Collaborators: the core (`runtime/native`), `ThreadUsage` (the thread's counters), `Sampler`
 * (where its counts begin).
 */

const native = require('../runtime/native')
const { Floats, closeOff } = require('../runtime/intrinsics')
const { LAST_SEGMENT, SEGMENTS_GONE } = require('./thread-counters')

const { create } = Object
const { segmentShift } = native.layout()

/**
 * @typedef {object} Segment
 * @property {number} name
 * @property {Float64Array} words
 * @property {Record<number, WeakRef<import('./slot').Slot>>} slots by the number of their row
 *   within the segment
 * @property {number} blockSize 0 until the first slot is known
 */

class Segments {
  /**
   * @param {import('./thread-usage').ThreadUsage} usage
   * @param {import('./sampler').Sampler} sampler
   */
  constructor(usage, sampler) {
    this.usage = usage
    this.sampler = sampler
    /**
     * The arrays by number. The object has no prototype, so that no setter sees them.
     *
     * @type {Record<number, Segment>}
     */
    this.byNumber = create(null)
    /** The number of segments that had gone at the last `forgetGone`. */
    this.gone = 0
  }

  /**
   * Returns the array of the segment that has the row which the core has just handed out.
   *
   * @param {number} row
   */
  wordsOf(row) {
    const number = row >>> segmentShift
    const name = this.usage.words[LAST_SEGMENT]
    const known = this.byNumber[number]
    if (known !== undefined && known.name === name) return known.words
    const words = new Floats(native.segment(this.usage.attachment, number))
    this.byNumber[number] = { name, words, slots: create(null), blockSize: 0 }
    this.sampler.countDown(words)
    return words
  }

  /** Drops the arrays of segments that have gone. */
  forgetGone() {
    const { attachment, words } = this.usage
    const gone = words[SEGMENTS_GONE]
    if (gone === this.gone) return
    this.gone = gone
    for (const number in this.byNumber) {
      const { name } = this.byNumber[number]
      if (!native.hasSegment(attachment, Number(number), name)) delete this.byNumber[number]
    }
  }
}

closeOff(Segments)

module.exports = { Segments }
