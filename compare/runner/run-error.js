'use strict'

const os = require('node:os')
const path = require('node:path')

/** The checkout. A saved result must not show its path on this machine. */
const ROOT = path.resolve(__dirname, '../..')

/** Reports that an arm could not run. */
class RunError extends Error {
  /**
   * @param {string} message
   * @param {string} [output] the last output of the process
   */
  constructor(message, output = '') {
    super(message)
    this.name = 'RunError'
    this.output = withoutPaths(output.trim())
  }
}

/**
 * @param {string} text
 * @returns {string} the same without paths of this machine
 */
function withoutPaths(text) {
  const places = [
    [`${ROOT}${path.sep}`, ''],
    [ROOT, '.'],
    [path.dirname(process.execPath), '…'],
    [os.tmpdir(), '…'],
    [os.homedir(), '~']
  ]
  let told = text
  for (const [place, sign] of places) {
    // File URLs have slashes, on Windows too.
    told = told.replaceAll(place, sign).replaceAll(place.replaceAll(path.sep, '/'), sign)
  }
  return told
}

/**
 * @param {{ error?: Error, code?: number | null, signal?: string | null }} end
 * @returns {string} completes "the process ended …"
 */
function describeEnd({ error, code, signal }) {
  if (error) return `with the error '${withoutPaths(error.message)}'`
  return signal ? `by signal ${signal}` : `with exit code ${code}`
}

module.exports = { RunError, describeEnd }
