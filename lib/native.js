'use strict'

/**
 * The addon, as `src/binding/` exports it.
 *
 * An attachment is this thread's end of a pool; a seat is where the thread's ledger keeps the
 * state of one block.
 *
 * @typedef {object} Attachment
 *
 * @typedef {object} Layout
 * @property {number[]} blockSizes the block size of each class, the smallest first, in bytes
 * @property {number} maxBlockSize the largest block, in bytes
 * @property {number} seatsPerSegment how many seats a segment of a ledger has
 * @property {number} wordsPerSeat
 *
 * @typedef {object} Native
 * @property {() => Layout} layout
 * @property {(detachOnRelease: boolean, zeroOnRelease: boolean) => Attachment} open
 * @property {() => Attachment} openShared
 * @property {() => boolean} asksForZeroFill
 * @property {(attachment: Attachment) => ArrayBuffer} words
 * @property {(attachment: Attachment, index: number) => ArrayBuffer} segment
 * @property {(attachment: Attachment, classIndex: number) => ArrayBuffer | null} lendIdle from the
 *   depot, its seat in the ledger; `null` where there is none
 * @property {(attachment: Attachment, classIndex: number) => ArrayBuffer | null} lendFresh from the
 *   operating system; `null` where the pool is closed
 * @property {(attachment: Attachment, arrayBuffer: ArrayBuffer, seat: number, classIndex: number, condemn: boolean) => boolean} detach
 * @property {(arrayBuffer: ArrayBuffer) => boolean} discard
 * @property {(attachment: Attachment, bytes: number) => number} trim
 * @property {(attachment: Attachment) => void} close
 * @property {(attachment: Attachment) => boolean} isClosed
 * @property {(attachment: Attachment) => NativeStats} stats
 *
 * @typedef {object} NativeStats
 * @property {import('../index').ClassFigures} total
 * @property {number} peakInUseBytes
 * @property {number} unpooledCount
 * @property {number[]} blockSizes
 * @property {import('../index').ClassFigures[]} classes
 */

const { addonPath } = require('./addon-path')
const { AddonMissing } = require('./errors')

/** @returns {Native} */
function load() {
  try {
    return require(addonPath)
  } catch (error) {
    throw new AddonMissing(/** @type {Error} */ (error))
  }
}

module.exports = load()
