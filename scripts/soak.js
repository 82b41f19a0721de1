'use strict'

/** `npm run soak -- --minutes N`: builds the addon where it is missing, and runs the soak in `soak/`. */

require('./check-node')
const path = require('node:path')
const { root, run } = require('./project')
const { buildAddon } = require('./addon')

buildAddon()
run(process.execPath, [
  '--expose-gc',
  path.join(root, 'soak', 'index.js'),
  ...process.argv.slice(2)
])
