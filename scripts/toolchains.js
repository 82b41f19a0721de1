'use strict'

/** Finds the toolchains that can build the addon for another platform. */

const { spawnSync } = require('node:child_process')
const { existsSync } = require('node:fs')
const path = require('node:path')
const { root } = require('./project')

/** Beside the one on the path, because Debian's has its sources where rustup's has none. */
const PROGRAMS = ['rustc', '/usr/bin/rustc']

const CRATES = ['core', 'alloc', 'std', 'panic_abort', 'panic_unwind']

/** Additional flags for programs that are tests. */
const TEST_CRATES = ['proc_macro', 'test']

/**
 * @typedef {object} Toolchain
 * @property {string} rustc
 * @property {string} cargo
 * @property {string} rustlib
 *
 * @typedef {object} Cross
 * @property {string} cargo
 * @property {string[]} args for every command of cargo
 * @property {NodeJS.ProcessEnv} env
 * @property {string} folder that receives cargo's output
 */

const toolchains = PROGRAMS.map(toolchainOf).filter((found) => found !== undefined)

/**
 * Returns how cargo builds for a target, which needs a standard library. That is the target's own
 * (`rustup target add`), or cargo builds it from source (`rustup component add rust-src`; Debian's
 * `rust-web-src` with `rustc-web` and `cargo-web`).
 *
 * @param {string} target
 * @param {{ forTests?: boolean }} [options]
 * @returns {Cross | undefined} undefined if there is neither
 */
function crossFor(target, { forTests = false } = {}) {
  const ready = toolchains.find(({ rustlib }) => existsSync(path.join(rustlib, target, 'lib')))
  const makes = toolchains.find(({ rustlib }) =>
    existsSync(path.join(rustlib, 'src', 'rust', 'library', 'std'))
  )
  const toolchain = ready ?? makes
  if (toolchain === undefined) return undefined
  const { cargo, rustc } = toolchain
  const at = path.join(root, 'target', ready === undefined ? 'std' : '')
  const args = ['--locked', '--target', target, '--target-dir', at]
  /** @type {NodeJS.ProcessEnv} */
  const env = { ...process.env, RUSTC: rustc }
  if (ready === undefined) {
    const crates = forTests ? [...CRATES, ...TEST_CRATES] : CRATES
    args.push(`-Zbuild-std=${crates.join()}`)
    // A stable cargo builds a standard library only with this variable.
    env.RUSTC_BOOTSTRAP = '1'
  }
  return { cargo, args, env, folder: path.join(at, target) }
}

/**
 * @param {string} rustc
 * @returns {Toolchain | undefined}
 */
function toolchainOf(rustc) {
  const { status, stdout } = spawnSync(rustc, ['--print', 'sysroot'], {
    cwd: root,
    encoding: 'utf8'
  })
  if (status !== 0) return undefined
  const cargo = path.isAbsolute(rustc) ? path.join(path.dirname(rustc), 'cargo') : 'cargo'
  return { rustc, cargo, rustlib: path.join(stdout.trim(), 'lib', 'rustlib') }
}

/**
 * Returns a sentence that says how to get the missing standard library.
 *
 * @param {string} target
 */
const howToGet = (target) =>
  `No standard library for ${target}: rustup target add ${target}, or its source: rustup component add rust-src`

module.exports = { crossFor, howToGet }
