'use strict'

/**
 * JavaScript's tests under a memory checker, with an addon built for it. Each finding, of any
 * process, is a file in a folder, so that no test can swallow it.
 */

const { spawnSync } = require('node:child_process')
const { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { commandLine } = require('./command-line')
const { envWith, fail, flagsFor, installDependencies, root, run } = require('./project')
const { place } = require('./addon')

/** The target is named so that flags for Rust reach only the addon, and not its build scripts. */
const TARGET = 'x86_64-unknown-linux-gnu'

/** Operations of the torture test if `CISTERN_TORTURE` sets no number. */
const TORTURE = { asan: 1_000_000, memcheck: 100_000 }

/**
 * Under memcheck a test file takes minutes. One that takes this long hangs, and the runner names
 * it.
 */
const LONGEST_MS = 1_800_000

/** Writes to a block that is not lent: each checker must see that before its results count. */
const CANARY = path.join(__dirname, 'canary.js')

/**
 * @typedef {object} Checker
 * @property {'asan' | 'memcheck'} name
 * @property {string[]} toolchain cargo's first argument
 * @property {string} rustflags beyond the name
 * @property {(log: string) => { command: string[], env: NodeJS.ProcessEnv }} around the command
 *   that starts Node, so that findings go to files whose names begin with `log`
 * @property {(report: string) => boolean} isFinding
 */

/**
 * @param {Checker} checker
 */
function cargoFor({ name, toolchain, rustflags }) {
  if (process.platform !== 'linux' || process.arch !== 'x64') fail(`${name} is for Linux on x64.`)
  const env = {
    ...process.env,
    RUSTFLAGS: `--cfg checker="${name}" ${rustflags}`,
    // Reports name lines, and small functions are not inlined beyond recognition.
    CARGO_PROFILE_RELEASE_DEBUG: 'line-tables-only',
    CARGO_PROFILE_RELEASE_LTO: 'off',
    CARGO_PROFILE_RELEASE_STRIP: 'none'
  }
  const folder = path.join(root, 'target', name)
  const at = ['--quiet', '--locked', '--target', TARGET, '--target-dir', folder]
  return {
    folder,
    cargo: (/** @type {string} */ command, /** @type {string[]} */ ...args) =>
      run('cargo', [...toolchain, command, ...at, ...args], { env })
  }
}

/**
 * Builds the addon, and runs `tests` with it under the checker. Any finding fails.
 *
 * @param {Checker} checker
 * @param {{ node: string, tests: string[] }} options
 */
function check(checker, { node, tests }) {
  installDependencies()
  const { folder, cargo } = cargoFor(checker)
  cargo('build', '--lib', '--release')
  const addon = path.join(folder, 'cistern.node')
  place(path.join(folder, TARGET, 'release', 'libcistern.so'), addon)

  const reports = mkdtempSync(path.join(os.tmpdir(), `cistern-${checker.name}-`))
  process.on('exit', () => rmSync(reports, { recursive: true }))
  /** Runs Node under the checker. Returns how it ended, and the findings. */
  const runNode = (
    /** @type {string} */ name,
    /** @type {string[]} */ args,
    /** @type {any} */ stdio
  ) => {
    const into = path.join(reports, name)
    mkdirSync(into)
    const { command, env } = checker.around(path.join(into, 'report'))
    const [program, ...before] = [...command, node, '--expose-gc', ...flagsFor(node), ...args]
    const { status, error } = spawnSync(program, before, {
      cwd: root,
      stdio,
      env: {
        ...process.env,
        CISTERN_TORTURE: process.env.CISTERN_TORTURE ?? String(TORTURE[checker.name]),
        ...env,
        ...envWith(addon),
        CISTERN_CHECKED: checker.name
      }
    })
    if (error !== undefined) fail(`${program} could not be started: ${error.message}`)
    const found = readdirSync(into)
      .map((file) => readFileSync(path.join(into, file), 'utf8'))
      .filter(checker.isFinding)
    return { status, found }
  }

  if (runNode('canary', [CANARY], 'ignore').found.length === 0) {
    fail(`${checker.name} does not see that a block is written to that is not lent.`)
  }
  const { status, found } = runNode(
    'tests',
    [
      '--test',
      `--test-timeout=${LONGEST_MS}`,
      `--test-concurrency=${os.availableParallelism()}`,
      ...tests
    ],
    'inherit'
  )
  for (const report of found) console.error(report)
  if (found.length > 0) fail(`${checker.name} has found something in ${found.length} processes.`)
  if (status !== 0) process.exit(status ?? 1)
  console.error(`${checker.name} has found nothing.`)
}

/**
 * Returns the tests that the command line asks for: all of a checker's, or these files.
 *
 * @param {string[]} names of its tests
 */
function options(names) {
  const { values, positionals } = commandLine({
    options: { node: { type: 'string', default: process.execPath } },
    allowPositionals: true
  })
  const isWhole = positionals.length === 0
  const tests = isWhole ? names.map((name) => `__test__/${name}.test.js`) : positionals
  return { node: values.node, tests, isWhole }
}

module.exports = { cargoFor, check, options }
