'use strict'

/** `npm run publish-result -- FILE`: sets up what is missing, then has `compare/publish.js` publish that result. */

require('./check-node')
const path = require('node:path')
const { root, run, installDependencies } = require('./project')

installDependencies()
run(process.execPath, [path.join(root, 'compare', 'publish.js'), ...process.argv.slice(2)])
