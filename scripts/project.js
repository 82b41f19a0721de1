'use strict'

/** Shared by every script here: the project's folder, and running its commands. */

const { spawnSync } = require('node:child_process')
const { existsSync, statSync } = require('node:fs')
const path = require('node:path')

const root = path.join(__dirname, '..')

/**
 * Cargo's worlds: the addon, its benches, its fuzzing, and the comparison's load client with its
 * probe.
 */
const crates = [
  'Cargo.toml',
  'benches/Cargo.toml',
  'fuzz/Cargo.toml',
  'compare/client/Cargo.toml',
  'compare/client/probe/Cargo.toml'
]

// Ctrl-C reaches the command that runs as well, and this process waits for how that ends.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => {})

/**
 * Runs a command in the project and ends this process when it fails.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {import('node:child_process').SpawnSyncOptions} [options]
 */
function run(command, args, options) {
  const { status, signal, error } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    ...options
  })
  if (error !== undefined) fail(`${command} could not be started: ${error.message}`)
  if (status !== 0) process.exit(status ?? (signal === 'SIGINT' ? 130 : 1))
}

/**
 * Runs npm: through the npm that runs us, if one does.
 *
 * @param {string[]} args
 */
function npm(args) {
  const script = process.env.npm_execpath
  if (script?.endsWith('.js')) run(process.execPath, [script, ...args], { stdio: quiet })
  else run('npm', args, { stdio: quiet, shell: process.platform === 'win32' })
}

/**
 * Runs a program of a package, by its file: what npm puts into `.bin` is for a shell on Windows.
 *
 * @param {string} file in `node_modules`
 * @param {string[]} args
 */
function runProgram(file, args) {
  run(process.execPath, [path.join(root, 'node_modules', file), ...args])
}

/** npm's own chatter goes where progress goes, so that stdout carries results only. */
const quiet = /** @type {import('node:child_process').StdioOptions} */ (['ignore', 2, 2])

/** Installs what the lock file names, unless that has been done since it last changed. */
function installDependencies() {
  const done = path.join(root, 'node_modules', '.package-lock.json')
  const lock = path.join(root, 'package-lock.json')
  if (existsSync(done) && statSync(done).mtimeMs >= statSync(lock).mtimeMs) return
  console.error('Installing dependencies …')
  // The build that npm would run at install is ours to run, next.
  npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'])
}

/**
 * Returns the flags for runs in which threads end at any moment, because of two races of Node's
 * own. A process may crash where a thread ends while V8 frees its dropped memory in the background
 * (SECURITY.md). Node 20 aborts where V8 compiles in the background for a thread that is terminated
 * ("Assertion failed: (data.first) != nullptr").
 *
 * @param {string} node the program
 */
function flagsFor(node) {
  return flagsOf(spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout ?? '')
}

/** @param {string} version as `process.version` has it */
function flagsOf(version) {
  const flags = ['--no-concurrent-array-buffer-sweeping']
  if (version.startsWith('v20.')) flags.push('--no-concurrent-recompilation')
  return flags
}

/**
 * The environment in which cistern, in whichever process, loads another addon in place of its own.
 *
 * @param {string} addon
 */
function envWith(addon) {
  const preload = path.join(__dirname, 'other-addon.js')
  return { CISTERN_ADDON: addon, NODE_OPTIONS: `--require=${JSON.stringify(preload)}` }
}

/**
 * Ends this process with one clear sentence.
 *
 * @param {string} sentence
 * @returns {never}
 */
function fail(sentence) {
  console.error(sentence)
  process.exit(1)
}

module.exports = {
  crates,
  root,
  run,
  runProgram,
  npm,
  flagsFor,
  flagsOf,
  envWith,
  installDependencies,
  fail
}
