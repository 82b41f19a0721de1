'use strict'

/** `npm run format`: mends the formatting of both languages, and what lints can mend. */

require('./check-node')
const path = require('node:path')
const { crates, root, run, installDependencies } = require('./project')

installDependencies()
run(path.join(root, 'node_modules', '.bin', 'biome'), ['check', '--write', '.'])
for (const crate of crates) run('cargo', ['fmt', '--manifest-path', crate])
