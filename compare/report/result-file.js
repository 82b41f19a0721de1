'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { UsageError } = require('../usage-error')
const { checkResult } = require('./schema')

/**
 * @param {string} file
 * @returns {object} a result of an earlier run
 * @throws {UsageError}
 */
function readResult(file) {
  let text
  try {
    text = fs.readFileSync(file, 'utf8')
  } catch (error) {
    throw new UsageError(`Can't read '${file}': ${reason(error)}.`)
  }
  try {
    return checkResult(JSON.parse(text))
  } catch (error) {
    throw new UsageError(`'${file}' is no result of cistern-compare: ${error.message}.`)
  }
}

/** Where results are kept while the comparison goes on. */
class ResultFile {
  #file

  /**
   * Finds out now, and not after minutes of measuring, whether the file can be written.
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

  /** Replaces the file in one step: a reader, or a crash, finds a whole result. @param {object} result */
  write(result) {
    fs.writeFileSync(this.#draft, `${JSON.stringify(result, null, 2)}\n`)
    fs.renameSync(this.#draft, this.#file)
  }

  get #draft() {
    return `${this.#file}.${process.pid}.part`
  }
}

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

module.exports = { readResult, ResultFile }
