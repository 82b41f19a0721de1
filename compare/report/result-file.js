'use strict'

const fs = require('node:fs')
const { UsageError } = require('../usage-error')
const { OutputFile, reason } = require('./output-file')
const { checkResult } = require('../result/schema')

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

/** Saves the results while the comparison runs. */
class ResultFile extends OutputFile {
  /** @param {object} result */
  write(result) {
    super.write(`${JSON.stringify(result, null, 2)}\n`)
  }
}

module.exports = { readResult, ResultFile }
