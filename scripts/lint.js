'use strict'

/** `npm run lint`: formatting, lints and types of both languages. Any finding fails. */

require('./check-node')
const { crates, run, runProgram, installDependencies } = require('./project')

installDependencies()
runProgram('@biomejs/biome/bin/biome', ['ci', '--error-on-warnings', '.'])
runProgram('typescript/bin/tsc', ['--project', '.'])
for (const crate of crates) {
  const manifest = ['--manifest-path', crate]
  run('cargo', ['fmt', ...manifest, '--check'])
  run('cargo', ['clippy', ...manifest, '--quiet', '--locked', '--all-targets', '--', '-Dwarnings'])
}
