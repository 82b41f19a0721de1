'use strict'

/** Provides the project's folder, and functions that run its commands. */

const { spawnSync } = require('node:child_process')
const { existsSync, statSync } = require('node:fs')
const path = require('node:path')

const root = path.join(__dirname, '..')

/**
 * The manifests of all crates: the addon, its benches, its fuzzing, the load client and its probe.
 */
const crates = [
  'Cargo.toml',
  'bench/depot/Cargo.toml',
  'fuzz/Cargo.toml',
  'compare/client/Cargo.toml',
  'compare/client/probe/Cargo.toml'
]

// Ctrl-C reaches the running command as well, and this process waits for the end of that.
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
 * Runs npm. If npm runs this script, it is the same npm.
 *
 * @param {string[]} args
 */
function npm(args) {
  const script = process.env.npm_execpath
  if (script?.endsWith('.js')) run(process.execPath, [script, ...args], { stdio: quiet })
  else run('npm', args, { stdio: quiet, shell: process.platform === 'win32' })
}

/**
 * Runs a program of a package by its file, because npm's `.bin` holds shell scripts on Windows.
 *
 * @param {string} file in `node_modules`
 * @param {string[]} args
 */
function runProgram(file, args) {
  run(process.execPath, [path.join(root, 'node_modules', file), ...args])
}

/** Sends npm's own output to stderr, so that stdout carries results only. */
const quiet = /** @type {import('node:child_process').StdioOptions} */ (['ignore', 2, 2])

/** Installs the packages of the lock file, unless this was done since its last change. */
function installDependencies() {
  const done = path.join(root, 'node_modules', '.package-lock.json')
  const lock = path.join(root, 'package-lock.json')
  if (existsSync(done) && statSync(done).mtimeMs >= statSync(lock).mtimeMs) return
  console.error('Installing dependencies …')
  // The scripts build the addon themselves.
  npm(['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'])
}

/**
 * Returns the flags for runs in which threads end at any moment, because of two races of Node's
 * own. A process may crash if a thread ends while V8 frees its dropped memory in the background
 * (SECURITY.md). Node 20 aborts if V8 compiles in the background for a thread that is terminated
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
 * Returns an environment in which cistern loads another addon in place of its own, in every
 * process.
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
