'use strict'

/** `npm run bench`: the fast path beside its floors and rivals, then the depot in Rust. */

require('./check-node')
const path = require('node:path')
const { root, run, installDependencies } = require('./project')
const { buildAddon } = require('./addon')

installDependencies()
buildAddon()
run(process.execPath, ['--expose-gc', path.join(root, 'bench', 'lease.js')])
if (!process.argv.includes('--no-rust')) run('cargo', ['bench', '--quiet', '--bench', 'depot'])
