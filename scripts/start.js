'use strict'

/**
 * `npm start`: installs and builds what is missing, then runs the comparison with the given
 * arguments.
 */

require('./check-node')
const path = require('node:path')
const { root, run, installDependencies } = require('./project')
const { buildAddon } = require('./addon')

installDependencies()
console.error('Building the addon …')
buildAddon()
run(process.execPath, [path.join(root, 'compare', 'cli.js'), ...process.argv.slice(2)])
