'use strict'

/** `npm run format`: formats both languages, and applies the fixes of the lints. */

require('./check-node')
const { crates, run, runProgram, installDependencies } = require('./project')

installDependencies()
runProgram('@biomejs/biome/bin/biome', ['check', '--write', '.'])
for (const crate of crates) run('cargo', ['fmt', '--manifest-path', crate])
