'use strict'

/**
 * `npm run fuzz -- --seconds N`: fuzzes the core, each target for N seconds. It writes its findings
 * to `fuzz/artifacts/`, and the inputs that it learns to `fuzz/corpus/`.
 */

require('./check-node')
const { spawnSync } = require('node:child_process')
const { mkdirSync, mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { commandLine } = require('./command-line')
const { root, run, fail } = require('./project')

const TARGETS = ['core', 'handle', 'number', 'kernel']

const { values } = commandLine({ options: { seconds: { type: 'string', default: '60' } } })
if (!/^[1-9]\d*$/.test(values.seconds)) fail('--seconds takes a whole number above 0.')
if (!has('+nightly', '--version'))
  fail('Fuzzing needs a nightly Rust: rustup toolchain install nightly --profile minimal')
if (!has('fuzz', '--version')) fail('Fuzzing needs cargo-fuzz: cargo install cargo-fuzz --locked')

// libFuzzer ends a target without a chance to remove its temporary files.
const scratch = mkdtempSync(path.join(tmpdir(), 'cistern-fuzz-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))
const env = { ...process.env, TMPDIR: scratch }

for (const target of TARGETS) {
  // By default libFuzzer tries shorter inputs than a sequence of a hundred steps needs.
  const limits = [`-max_total_time=${values.seconds}`, '-max_len=4096', '-print_final_stats=1']
  const corpus = path.join('fuzz', 'corpus', target)
  mkdirSync(path.join(root, corpus), { recursive: true })
  const fuzz = ['+nightly', 'fuzz', 'run', '--features', 'link', target, corpus]
  run('cargo', [...fuzz, '--', ...limits], { env })
}

/**
 * Returns whether cargo has a subcommand or a toolchain.
 *
 * @param {string[]} args
 */
function has(...args) {
  return spawnSync('cargo', args, { stdio: 'ignore' }).status === 0
}
