'use strict'

/** `npm run format`: mends the formatting of both languages, and what lints can mend. */

require('./check-node')
const { crates, run, runProgram, installDependencies } = require('./project')

installDependencies()
runProgram('@biomejs/biome/bin/biome', ['check', '--write', '.'])
for (const crate of crates) run('cargo', ['fmt', '--manifest-path', crate])
