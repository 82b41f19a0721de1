'use strict'

/**
 * The addon, as `src/binding/` exports it.
 *
 * An attachment is this thread's end of a pool; a row is where the thread's counters keeps the
 * state of one block.
 *
 * @typedef {object} Attachment
 *
 * @typedef {object} Layout
 * @property {number[]} blockSizes the block size of each class, the smallest first, in bytes
 * @property {number} maxBlockSize the largest block, in bytes
 * @property {number} segmentShift how far the number of its segment is shifted in the number of a row
 * @property {number} headColumns how many words a segment has before those of its rows
 * @property {number} columnsPerRow
 * @property {number} idleAllowance how much may be idle however little was in use lately, in bytes
 *
 * @typedef {Record<string, number>} Numbers the variants of one enum of Rust's
 *
 * @typedef {object} Constants
 * @property {Numbers} blockState
 * @property {Numbers} column
 * @property {Numbers} segmentColumn
 * @property {Numbers} rowColumn
 * @property {Numbers} fate
 * @property {Numbers} tick
 * @property {Numbers} remoteState
 * @property {string[]} classFigures in the order in which `stats` writes them
 * @property {string[]} poolFigures
 *
 * @typedef {object} Native
 * @property {() => Layout} layout
 * @property {() => Constants} constants the numbers that `lib/` has as constants of its own, for a test to compare
 * @property {() => number} memoryLimit in bytes
 * @property {() => boolean} asksForZeroFill
 * @property {() => boolean} isExternal whether blocks are memory of the addon's own
 * @property {(settings: Settings) => Attachment} open
 * @property {(settings: Settings) => Attachment} openShared
 * @property {(key: string) => Attachment} attach
 * @property {(attachment: Attachment) => string} handle
 * @property {(attachment: Attachment) => Settings} settings
 * @property {(attachment: Attachment) => ArrayBuffer} words
 * @property {(attachment: Attachment, index: number) => ArrayBuffer} segment
 * @property {(attachment: Attachment, index: number, name: number) => boolean} hasSegment
 * @property {(attachment: Attachment, answer: () => void) => void} listen
 * @property {(attachment: Attachment, hasIdle: boolean) => boolean} setIdle whether the core sees to it
 * @property {(attachment: Attachment) => number} takeAsked
 * @property {(attachment: Attachment) => number} takeTrimmed
 * @property {(attachment: Attachment) => boolean} takeFreeAll
 * @property {(attachment: Attachment) => number} takeTick 0: none is due; 1: to look; 2: to free what is unused, too;
 *   3: because memory runs short
 * @property {(attachment: Attachment) => number} takeFreedAsIdle
 * @property {(attachment: Attachment) => number} takeFreedUnderPressure
 * @property {(attachment: Attachment) => number | null} nextReport the record of a leak; below 0: it is
 *   none, another thread has released it
 * @property {(attachment: Attachment, site: string) => number} noteLeakSite which one of those to be told by a warning;
 *   0: it was told before, or too many were
 * @property {(attachment: Attachment, classIndex: number) => Lent | null} lendIdle from the
 *   depot, its row in the counters; `null` where there is none
 * @property {(attachment: Attachment, classIndex: number) => Lent | number | null} lendFresh from
 *   the operating system; a number: so many bytes must be given up first; `null` where the pool is
 *   closed
 * @property {(attachment: Attachment, row: number) => boolean} withdraw
 * @property {(attachment: Attachment, arrayBuffer: ArrayBuffer, row: number, classIndex: number, fate: number) => boolean} detach 0: to be kept, 1: to be
 *   freed, 2: to be freed because it is not wanted
 * @property {(attachment: Attachment, arrayBuffer: ArrayBuffer) => object | null} noteUnpooled what must live as long as
 *   the ArrayBuffer of V8's that serves a lease, if anything
 * @property {(attachment: Attachment, arrayBuffer: ArrayBuffer, detached: boolean) => void} releaseUnpooled
 * @property {(attachment: Attachment, arrayBuffer: ArrayBuffer) => number} stateOf 2: leased memory of V8's, 1: a leased
 *   block, 0: released, -1: not of this pool
 * @property {(attachment: Attachment, arrayBuffer: ArrayBuffer) => boolean} releaseRemotely
 * @property {() => boolean} canMoveMemory
 * @property {() => boolean} collectGarbage
 * @property {(arrayBuffer: ArrayBuffer) => ArrayBuffer | null} moveMemory
 * @property {(transfer: (arrayBuffer: ArrayBuffer) => ArrayBuffer) => boolean} movesMemory
 * @property {(arrayBuffer: ArrayBuffer) => boolean} discard
 * @property {(attachment: Attachment, bytes: number) => void} ask
 * @property {(attachment: Attachment, bytes: number) => void} trimOthers
 * @property {(attachment: Attachment) => boolean} nobodyWaits
 * @property {(attachment: Attachment, classIndex: number) => boolean} canEverHold
 * @property {(attachment: Attachment) => number} holdableBytes beside what is set aside for good
 * @property {(attachment: Attachment, classIndex: number) => number} wait
 * @property {(attachment: Attachment) => number | null} granted
 * @property {(attachment: Attachment, ticket: number) => Lent | number | null} claim a number: the ceiling can't hold such a
 *   block any more
 * @property {(attachment: Attachment, ticket: number) => void} cancel
 * @property {(attachment: Attachment, bytes: number, blocks: number) => number} trim at most so many blocks
 * @property {(attachment: Attachment) => number} depotBytes
 * @property {(attachment: Attachment) => void} shrink
 * @property {(attachment: Attachment) => void} close
 * @property {(attachment: Attachment) => boolean} isClosed
 * @property {(attachment: Attachment, words: Float64Array) => number} stats the count of classes; `stats.js`
 *   tells what stands in which word
 *
 * @typedef {ArrayBuffer} Lent a block's ArrayBuffer; where V8 has the memory, only a guard that
 *   goes with it
 *
 * @typedef {object} Settings
 * @property {string} name
 * @property {number} maxBytes
 * @property {number} maxBlockSize
 * @property {boolean} throwsWhenExhausted
 * @property {boolean} detachOnRelease
 * @property {boolean} zeroOnRelease
 * @property {number} idleTimeout in milliseconds
 * @property {number} leakSampleRate
 *
 */

const process = require('node:process')
const { isMainThread } = require('node:worker_threads')
const { AddonMissing, NoExternalInWorker } = require('../pool/errors')
const { isNode, platform } = require('./platform')

/**
 * One from each place that has no addon, or none that can be loaded.
 *
 * @type {Error[]}
 */
const errors = []

/**
 * The addon that was built here, or came along prebuilt; `undefined` where none can be loaded.
 *
 * Each name is a literal, and all of them are within `try`: so bundlers see the files, and let those be missing that
 * are for other platforms.
 *
 * @returns {Native | undefined}
 */
function fromFile() {
  try {
    switch (platform) {
      case 'darwin-arm64':
        return require('../../native/cistern.darwin-arm64.node')
      case 'darwin-x64':
        return require('../../native/cistern.darwin-x64.node')
      case 'linux-arm64-gnu':
        return require('../../native/cistern.linux-arm64-gnu.node')
      case 'linux-arm64-musl':
        return require('../../native/cistern.linux-arm64-musl.node')
      case 'linux-x64-gnu':
        return require('../../native/cistern.linux-x64-gnu.node')
      case 'linux-x64-musl':
        return require('../../native/cistern.linux-x64-musl.node')
      case 'win32-x64-msvc':
        return require('../../native/cistern.win32-x64-msvc.node')
      default:
        return fromBuild()
    }
  } catch (error) {
    errors[errors.length] = /** @type {Error} */ (error)
  }
}

/**
 * The addon of the package that has it prebuilt; `undefined` where none can be loaded.
 *
 * @returns {Native | undefined}
 */
function fromPackage() {
  try {
    switch (platform) {
      case 'darwin-arm64':
        return require('@cistern/binding-darwin-arm64')
      case 'darwin-x64':
        return require('@cistern/binding-darwin-x64')
      case 'linux-arm64-gnu':
        return require('@cistern/binding-linux-arm64-gnu')
      case 'linux-arm64-musl':
        return require('@cistern/binding-linux-arm64-musl')
      case 'linux-x64-gnu':
        return require('@cistern/binding-linux-x64-gnu')
      case 'linux-x64-musl':
        return require('@cistern/binding-linux-x64-musl')
      case 'win32-x64-msvc':
        return require('@cistern/binding-win32-x64-msvc')
    }
  } catch (error) {
    errors[errors.length] = /** @type {Error} */ (error)
  }
}

/**
 * The addon that was built here, on a platform that has no package. Not by `require`: bundlers warn of a name that
 * is not a literal.
 *
 * @returns {Native}
 */
function fromBuild() {
  const { addonPath } = require('./addon-path')
  const addon = { exports: /** @type {any} */ ({}) }
  process.dlopen(addon, addonPath)
  return addon.exports
}

/**
 * The addon, if it is one. Some bundlers give a name of the file in its place, and mocks an empty object.
 *
 * @param {Native | undefined} addon
 */
function real(addon) {
  if (addon === undefined || typeof addon.layout === 'function') return addon
  errors[errors.length] = new TypeError('The addon was replaced: it has no functions')
}

/** @returns {never} */
function refuse() {
  const { explain } = require('./load-failure')
  throw new AddonMissing(explain(typeof __filename === 'string' ? __filename : '', errors), errors)
}

const native = real(fromFile()) ?? real(fromPackage()) ?? refuse()
// There the books of this thread would be in memory of V8's, which goes before an addon hears of its end.
if (!isNode && !isMainThread && !native.isExternal()) throw new NoExternalInWorker()

module.exports = native
