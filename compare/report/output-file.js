'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { UsageError } = require('../usage-error')

/** Writes a file again and again while the comparison runs. */
class OutputFile {
  #file

  /**
   * Checks at once that the file is writable, not after minutes of measurement.
   *
   * @param {string} file
   * @throws {UsageError}
   */
  constructor(file) {
    this.#file = path.resolve(file)
    try {
      if (fs.statSync(this.#file, { throwIfNoEntry: false })?.isDirectory()) {
        throw Object.assign(new Error(), { code: 'EISDIR' })
      }
      fs.writeFileSync(this.#draft, '')
      fs.unlinkSync(this.#draft)
    } catch (error) {
      throw new UsageError(`Can't write '${file}': ${reason(error)}.`)
    }
  }

  /**
   * Replaces the file in one step, so that readers always find a whole file, even after a crash.
   *
   * @param {string} text
   */
  write(text) {
    fs.writeFileSync(this.#draft, text)
    fs.renameSync(this.#draft, this.#file)
  }

  get #draft() {
    return `${this.#file}.${process.pid}.part`
  }
}

/**
 * @param {{ code?: string, message: string }} error of the file system
 *
 * @returns {string} in words
 */
function reason({ code, message }) {
  const known = {
    ENOENT: 'there is no such file or folder',
    ENOTDIR: 'a part of its path is no folder',
    EISDIR: 'it is a folder',
    EACCES: 'no permission',
    EPERM: 'no permission',
    EROFS: 'the file system is read-only',
    ENOSPC: 'the disk is full'
  }
  return known[code] ?? message
}

module.exports = { OutputFile, reason }
