'use strict'

/** `npm run build [-- --debug]`: builds the addon. */

require('./check-node')
const { commandLine } = require('./command-line')
const { buildAddon } = require('./addon')

const { values } = commandLine({ options: { debug: { type: 'boolean', default: false } } })
buildAddon(values)
