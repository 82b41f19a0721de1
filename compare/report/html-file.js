'use strict'

const { htmlReport } = require('./html')
const { OutputFile } = require('./output-file')

/** Writes the report as a page to a file. */
class HtmlFile extends OutputFile {
  /** @param {object} result */
  write(result) {
    super.write(htmlReport(result))
  }
}

module.exports = { HtmlFile }
