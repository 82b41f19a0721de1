'use strict'

const { end } = require('./lib/io/end')
const { onread } = require('./lib/io/onread')
const { readBody } = require('./lib/io/read-body')

module.exports = {
  get chunks() {
    return require('./lib/io/chunks').chunks
  },
  end,
  onread,
  get pumpFile() {
    return require('./lib/io/pump-file').pumpFile
  },
  readBody
}
