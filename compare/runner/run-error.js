'use strict'

const os = require('node:os')
const path = require('node:path')

/** The checkout; its place on the machine is nobody's business in a saved result. */
const ROOT = path.resolve(__dirname, '../..')

/** An arm could not be run. */
class RunError extends Error {
  /**
   * @param {string} message
   * @param {string} [output] the last that the process said
   */
  constructor(message, output = '') {
    super(message)
    this.name = 'RunError'
    this.output = withoutPaths(output.trim())
  }
}

/**
 * @param {string} text
 * @returns {string} the same without places of this machine
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
    // URLs of files have slashes, on Windows too.
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
