'use strict'

const path = require('node:path')
const { experiments } = require('../experiments')
const { HtmlFile } = require('../report/html-file')
const { UsageError } = require('../usage-error')

/** The file of the page when the command line names none. */
const DEFAULT_FILE = 'report.html'

/**
 * @param {{ html?: string | true, json?: string }} options as the command line has them
 * @returns {HtmlFile | undefined} undefined without `--html`
 * @throws {UsageError}
 */
function htmlFile({ html, json }) {
  if (html === undefined) return undefined
  const file = html === true ? DEFAULT_FILE : html
  if (experiments.some(({ name }) => name === file)) {
    throw new UsageError(
      `--html takes '${file}' for its file. Write the experiment before it, or name the file: --html ${DEFAULT_FILE} ${file}.`
    )
  }
  if (json !== undefined && path.resolve(json) === path.resolve(file)) {
    throw new UsageError(`--json and --html name the same file, '${file}'.`)
  }
  return new HtmlFile(file)
}

module.exports = { htmlFile, DEFAULT_FILE }
