'use strict'

/**
 * `npm test`: sets up what is missing, then runs every test.
 *
 * `npm test -- --node PATH` runs only the addon's JavaScript tests, with another Node; `npm test --
 * --debug` runs only them on a debug build, with the ownership assertions, and leaves the addon as
 * `npm run build` makes it; `npm test -- --no-witness` runs only them on a build that knows as
 * little of V8's memory as one for macOS or Windows does.
 */

require('./check-node')
const { readdirSync } = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { commandLine } = require('./command-line')
const { crates, root, run, envWith, fail, flagsFor, installDependencies } = require('./project')
const { buildAddon, place } = require('./addon')

/** No test file takes a tenth of that. A file that reaches it hangs, and the runner names it. */
const LONGEST_MS = 600_000

/** `npm run test:install` runs this one: it builds the addon anew, again and again. */
const INSTALLATION = path.join('__test__', 'package', 'install.test.js')

const runner = [
  '--test',
  `--test-timeout=${LONGEST_MS}`,
  `--test-concurrency=${os.availableParallelism()}`
]

const { values } = commandLine({
  options: {
    node: { type: 'string' },
    debug: { type: 'boolean', default: false },
    'no-witness': { type: 'boolean', default: false }
  }
})
const { debug, 'no-witness': isBlind } = values
const only = values.node !== undefined || debug || isBlind
if (isBlind && process.platform !== 'linux') fail('--no-witness is for Linux: here there is none.')
if (isBlind && debug) fail('--debug and --no-witness are two builds: one at a time.')

installDependencies()
buildAddon({ debug })
if (debug) process.on('exit', () => buildAddon())
if (!only) {
  for (const crate of crates)
    run('cargo', ['test', '--quiet', '--locked', '--manifest-path', crate])
  run(process.execPath, [...runner, ...testsIn('compare/test')])
}
const node = values.node ?? process.execPath
const env = isBlind ? { ...process.env, ...envWith(buildWithoutWitness()) } : process.env
run(node, [...runner, '--expose-gc', ...flagsFor(node), ...testsIn('__test__')], { env })

/**
 * Builds the addon without a witness, beside the one that `npm run build` makes. Returns its path.
 */
function buildWithoutWitness() {
  const target = path.join(root, 'target', 'no_witness')
  const args = ['build', '--lib', '--release', '--locked', '--quiet', '--target-dir', target]
  const RUSTFLAGS = `${process.env.RUSTFLAGS ?? ''} --cfg no_witness`
  run('cargo', args, { env: { ...process.env, RUSTFLAGS } })
  const addon = path.join(target, 'cistern.node')
  place(path.join(target, 'release', 'libcistern.so'), addon)
  return addon
}

/**
 * Returns the paths of all tests below a folder, in the order of the alphabet.
 *
 * @param {string} folder
 */
function testsIn(folder) {
  const tests = readdirSync(path.join(root, folder), { recursive: true })
    .map((name) => path.join(folder, String(name)))
    .filter((file) => /\.test\.m?js$/.test(file) && file !== INSTALLATION)
    .sort()
  if (tests.length === 0) fail(`There is no test in ${folder}.`)
  return tests
}
