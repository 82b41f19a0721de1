'use strict'

/**
 * `npm run test:targets [-- TARGET…]`: type-checks the addon for each platform that there are to be binaries for, or
 * for those named, as nothing here can run on them.
 *
 * That takes a standard library: the target's own (`rustup target add`), or its source (`rustup component add
 * rust-src`; Debian's `rust-web-src` with `rustc-web` and `cargo-web`), from which cargo makes one.
 */

require('./check-node')
const { spawnSync } = require('node:child_process')
const { existsSync } = require('node:fs')
const path = require('node:path')
const { fail, root, run } = require('./project')
const { napi } = require('../package.json')

/** Beside the one on the path, because Debian's has its sources where rustup's has none. */
const PROGRAMS = ['rustc', '/usr/bin/rustc']

const CRATES = 'core,alloc,std,panic_abort,panic_unwind'

/**
 * @typedef {object} Toolchain
 * @property {string} rustc
 * @property {string} cargo
 * @property {string} rustlib
 */

const wanted = process.argv.slice(2)
const unknown = wanted.filter((target) => !napi.targets.includes(target))
if (unknown.length > 0) {
  fail(`There is no binary for ${unknown.join(', ')}, but for ${napi.targets.join(', ')}`)
}
const toolchains = PROGRAMS.map(toolchainOf).filter((found) => found !== undefined)
for (const target of wanted.length > 0 ? wanted : napi.targets) check(target)

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

/** @param {string} target */
function check(target) {
  const ready = toolchains.find(({ rustlib }) => existsSync(path.join(rustlib, target, 'lib')))
  const makes = toolchains.find(({ rustlib }) =>
    existsSync(path.join(rustlib, 'src', 'rust', 'library', 'std'))
  )
  const toolchain = ready ?? makes
  if (toolchain === undefined) {
    fail(
      `No standard library for ${target}: rustup target add ${target}, or its source: rustup component add rust-src`
    )
  }
  console.error(`${target} …`)
  const args = ['check', '--quiet', '--lib', '--locked', '--target', target]
  /** @type {NodeJS.ProcessEnv} */
  const env = { ...process.env, RUSTC: toolchain.rustc, RUSTFLAGS: '-Dwarnings' }
  if (ready === undefined) {
    args.push(`-Zbuild-std=${CRATES}`, '--target-dir', path.join('target', 'std'))
    // Only so does a stable cargo make a standard library.
    env.RUSTC_BOOTSTRAP = '1'
  }
  run(toolchain.cargo, args, { env })
}
