'use strict'

/** Where the addon lies once it is built. */

const path = require('node:path')

const addonPath = path.join(
  __dirname,
  '..',
  'native',
  `cistern.${process.platform}-${process.arch}.node`
)

module.exports = { addonPath }
