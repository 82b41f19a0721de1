'use strict'

/** `npm run build [-- --debug]`, and what `npm install` runs: builds the addon. */

require('./check-node')
const { buildAddon } = require('./addon')

buildAddon({ debug: process.argv.includes('--debug') })
