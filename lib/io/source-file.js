'use strict'

/** A file that is read from start to end, one read at a time. */

const fs = require('node:fs')
const { isUint8Array } = require('node:util').types
const { OutOfRange } = require('../errors')
const { checkInteger } = require('./checks')

/** The most bytes that can be read at a time. */
const LARGEST_READ = 2 ** 31 - 1

/**
 * @typedef {import('node:fs/promises').FileHandle} FileHandle
 * @typedef {(error: NodeJS.ErrnoException | null, bytesRead: number) => void} OnRead
 */

/**
 * Whether a value is what `open` of `node:fs/promises` gives. Its class has no public name.
 *
 * @param {any} value
 * @returns {value is FileHandle}
 */
function isFileHandle(value) {
  return typeof value?.fd === 'number' && isMethod(value.read) && isMethod(value.datasync)
}

/** @param {unknown} value */
const isMethod = (value) => typeof value === 'function'

/**
 * @param {unknown} value
 * @returns {value is import('node:fs').PathLike | FileHandle}
 */
function isPath(value) {
  if (typeof value === 'string' || isUint8Array(value) || value instanceof URL) return true
  return isFileHandle(value)
}

/**
 * @param {unknown} start
 * @param {unknown} end inclusive
 */
function checkRange(start, end) {
  if (start !== undefined) checkInteger('options.start', start, 0)
  if (end === undefined || end === Infinity) return
  checkInteger('options.end', end, 0)
  if (start !== undefined && start > end) {
    throw new OutOfRange('options.start', `<= "options.end" (here: ${end})`, start)
  }
}

class SourceFile {
  #path
  /** @type {FileHandle | undefined} */
  #handle
  #fd = -1
  /**
   * Where the next read begins; `null` where it begins where the last has ended, because a FIFO has
   * no positions.
   *
   * @type {number | null}
   */
  #position
  /** Whether a file without positions will do. */
  #isFlexible
  /** @type {OnRead} */
  #onRead = () => {}
  /** How many bytes there are to be read, at most. */
  left

  /**
   * @param {import('node:fs').PathLike | FileHandle} source
   * @param {number} [start]
   * @param {number} [end] inclusive
   */
  constructor(source, start, end = Infinity) {
    this.left = end - (start ?? 0) + 1
    this.#isFlexible = start === undefined
    this.#position = start ?? null
    if (isFileHandle(source)) {
      this.#handle = source
      // So that the handle's own position stays where it is.
      this.#position ??= 0
    } else {
      this.#path = source
    }
  }

  /** @param {(error: Error | null) => void} callback */
  open(callback) {
    if (this.#path === undefined) {
      callback(null)
      return
    }
    try {
      fs.open(this.#path, 'r', (error, fd) => {
        if (!error) this.#fd = fd
        callback(error)
      })
    } catch (error) {
      // No path at all: with a zero in it, or of a URL that names no file.
      process.nextTick(callback, error)
    }
  }

  /**
   * Reads into a block as much as it holds, or less; 0 bytes are the end. Until the callback runs the
   * block is the file's.
   *
   * @param {Buffer} block
   * @param {OnRead} callback
   */
  read(block, callback) {
    this.#onRead = callback
    if (this.#handle !== undefined) this.#readHandle(this.#handle, block)
    else fs.read(this.#fd, block, 0, this.#lengthFor(block), this.#position, this.#pass)
  }

  /**
   * By the handle's own method: its `close()` waits for that, while the number of a file that is
   * closed may be another's the next moment.
   *
   * @param {FileHandle} handle
   * @param {Buffer} block
   */
  #readHandle(handle, block) {
    const length = this.#lengthFor(block)
    // Another's handle may throw, and tell what it likes.
    const read = async () => {
      const { bytesRead } = await handle.read(block, 0, length, this.#position)
      checkInteger('bytesRead', bytesRead, 0, length)
      return bytesRead
    }
    read().then(
      (bytesRead) => this.#pass(null, bytesRead),
      (error) => {
        const hasNoPositions = error.code === 'ESPIPE' && this.#isFlexible
        if (hasNoPositions && this.#position !== null) {
          this.#position = null
          this.#readHandle(handle, block)
        } else {
          this.#pass(error, 0)
        }
      }
    )
  }

  /** @param {Buffer} block */
  #lengthFor(block) {
    return Math.min(block.length, this.left)
  }

  /** @type {OnRead} */
  #pass = (error, bytesRead) => {
    if (!error) {
      this.left -= bytesRead
      if (this.#position !== null) this.#position += bytesRead
    }
    this.#onRead(error, bytesRead)
  }

  /**
   * Closes what `open` has opened. No read may be under way.
   *
   * @param {() => void} callback
   */
  close(callback) {
    if (this.#fd === -1) {
      callback()
      return
    }
    // Nothing that was read is wrong, whatever this says.
    fs.close(this.#fd, () => callback())
    this.#fd = -1
  }
}

module.exports = { LARGEST_READ, SourceFile, checkRange, isPath }
