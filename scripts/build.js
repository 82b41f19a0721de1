'use strict'

/** `npm run build [-- --debug]`: builds the addon. */

require('./check-node')
const { buildAddon } = require('./addon')

buildAddon({ debug: process.argv.includes('--debug') })
