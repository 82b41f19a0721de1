'use strict'

/**
 * `npm run test:install`: builds the addon, and installs the package as npm would publish it into
 * empty projects: with its binary, without, and without cargo as well.
 */

require('./check-node')
const path = require('node:path')
const { root, run, installDependencies } = require('./project')
const { buildAddon } = require('./addon')

installDependencies()
buildAddon()
run(process.execPath, ['--test', path.join(root, '__test__', 'package', 'install.test.js')])
