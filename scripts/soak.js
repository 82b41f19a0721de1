'use strict'

/** `npm run soak -- --minutes N`: builds the addon, and runs the soak in `__test__/soak/`. */

require('./check-node')
const path = require('node:path')
const { flagsFor, root, run } = require('./project')
const { buildAddon } = require('./addon')

buildAddon()
const soak = path.join(root, '__test__', 'soak', 'index.js')
const flags = ['--expose-gc', ...flagsFor(process.execPath)]
run(process.execPath, [...flags, soak, ...process.argv.slice(2)])
