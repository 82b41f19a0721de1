'use strict'

const { htmlReport } = require('./html')
const { OutputFile } = require('./output-file')

/** The report as a page, in a file. */
class HtmlFile extends OutputFile {
  /** @param {object} result */
  write(result) {
    super.write(htmlReport(result))
  }
}

module.exports = { HtmlFile }
