'use strict'

/**
 * `npm run lint`: formatting, lints and types of both languages, and the package as npm packs it.
 * Any finding fails.
 */

require('./check-node')
const { mkdtempSync, readdirSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { crates, npm, run, runProgram, installDependencies } = require('./project')

installDependencies()
runProgram('@biomejs/biome/bin/biome', ['ci', '--error-on-warnings', '.'])
runProgram('typescript/bin/tsc', ['--project', '.'])
lintPackage()
for (const crate of crates) {
  const manifest = ['--manifest-path', crate]
  run('cargo', ['fmt', ...manifest, '--check'])
  run('cargo', ['clippy', ...manifest, '--quiet', '--locked', '--all-targets', '--', '-Dwarnings'])
}

/**
 * Checks that each entry of the package resolves, with its types, in every mode of TypeScript and
 * in bundlers.
 */
function lintPackage() {
  const folder = mkdtempSync(path.join(tmpdir(), 'cistern-lint-'))
  process.on('exit', () => rmSync(folder, { recursive: true }))
  npm(['pack', '--ignore-scripts', '--silent', '--pack-destination', folder])
  const [name] = readdirSync(folder)
  const tarball = path.join(folder, name)
  runProgram('publint/src/cli.js', ['run', tarball, '--strict'])
  runProgram('@arethetypeswrong/cli/dist/index.js', [tarball, '--format', 'ascii', '--no-emoji'])
}
