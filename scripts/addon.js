'use strict'

/** Builds the addon with cargo. */

const { spawnSync } = require('node:child_process')
const { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } = require('node:fs')
const path = require('node:path')
const { root, fail } = require('./project')
const { addonPath } = require('../lib/runtime/addon-path')
const { platform } = require('../lib/runtime/platform')

/**
 * The names that cargo gives the addon, if they are not `libcistern.so`.
 *
 * @type {Partial<Record<NodeJS.Platform, string>>}
 */
const LIBRARIES = { darwin: 'libcistern.dylib', win32: 'cistern.dll' }

/**
 * Builds the addon and places it where `lib/runtime/native.js` looks for it.
 *
 * @param {{ debug?: boolean }} [options] `debug`: with the ownership assertions, unoptimised
 */
function buildAddon({ debug = false } = {}) {
  const profile = debug ? 'debug' : 'release'
  const args = ['build', '--lib', '--locked', '--quiet', ...(debug ? [] : ['--release'])]
  const { status, error } = spawnSync('cargo', args, { cwd: root, stdio: ['ignore', 2, 2] })
  if (error !== undefined) {
    fail(
      `cistern has to be built with Rust on ${platform}, and there is no cargo on the PATH: ` +
        'install it from https://rustup.rs and run this command again.'
    )
  }
  if (status !== 0) fail('The addon could not be built: see the output of cargo above.')
  const target = process.env.CARGO_TARGET_DIR ?? path.join(root, 'target')
  const library = LIBRARIES[process.platform] ?? 'libcistern.so'
  mkdirSync(path.dirname(addonPath), { recursive: true })
  place(path.join(target, profile, library), addonPath)
}

/**
 * Places a library where Node loads it from.
 *
 * @param {string} library
 * @param {string} addon
 */
function place(library, addon) {
  // A rename leaves the old file to processes that have mapped it.
  const fresh = `${addon}.${process.pid}`
  copyFileSync(library, fresh)
  if (process.platform === 'win32') putAside(addon)
  renameSync(fresh, addon)
}

/**
 * Moves the old addon aside. Windows permits a process to rename a loaded file, but neither to
 * replace nor to remove it. So a later call removes the file, when no process has it loaded any
 * more.
 *
 * @param {string} addon
 */
function putAside(addon) {
  const folder = path.dirname(addon)
  const names = readdirSync(folder)
  const name = path.basename(addon)
  for (const old of names.filter((other) => other.startsWith(`${name}.old-`))) {
    try {
      rmSync(path.join(folder, old))
    } catch {
      // Some process still has it loaded.
    }
  }
  if (existsSync(addon)) renameSync(addon, `${addon}.old-${process.pid}-${Date.now()}`)
}

module.exports = { buildAddon, place }
