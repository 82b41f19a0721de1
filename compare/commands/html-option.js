'use strict'

const path = require('node:path')
const { experiments } = require('../experiments')
const { HtmlFile } = require('../report/html-file')
const { UsageError } = require('../usage-error')

/** Where the page goes when no file is named. */
const DEFAULT_FILE = 'report.html'

/**
 * @param {{ html?: string | true, json?: string }} options as the command line has them
 * @returns {HtmlFile | undefined} none where no page is wanted
 * @throws {UsageError}
 */
function htmlFile({ html, json }) {
  if (html === undefined) return undefined
  const file = html === true ? DEFAULT_FILE : html
  if (experiments.some(({ name }) => name === file)) {
    throw new UsageError(
      `'${file}' stands where --html has its file. Write it before, or the file: --html ${DEFAULT_FILE} ${file}.`
    )
  }
  if (json !== undefined && path.resolve(json) === path.resolve(file)) {
    throw new UsageError(`--json and --html are the same file, '${file}'.`)
  }
  return new HtmlFile(file)
}

module.exports = { htmlFile, DEFAULT_FILE }
