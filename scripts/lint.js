'use strict'

/** `npm run lint`: formatting, lints and types of both languages. Any finding fails. */

require('./check-node')
const path = require('node:path')
const { crates, root, run, installDependencies } = require('./project')

installDependencies()
const bin = path.join(root, 'node_modules', '.bin')
run(path.join(bin, 'biome'), ['ci', '--error-on-warnings', '.'])
run(path.join(bin, 'tsc'), ['--project', '.'])
for (const crate of crates) {
  const manifest = ['--manifest-path', crate]
  run('cargo', ['fmt', ...manifest, '--check'])
  run('cargo', ['clippy', ...manifest, '--quiet', '--locked', '--all-targets', '--', '-Dwarnings'])
}
