'use strict'

/** Explains why the addon could not be loaded, and what the user can do about that. */

const { existsSync } = require('node:fs')
const process = require('node:process')
const { platform } = require('./platform')

/** The oldest Node that has every function which the addon calls. */
const OLDEST_NODE = 20

/** The platforms for which each release has a package with a binary. */
const PUBLISHED = /^(?:darwin-(?:arm64|x64)|linux-(?:arm64|x64)-(?:gnu|musl)|win32-x64-msvc)$/

const ADVICE = {
  /** Since npm 12 and pnpm 10, a package runs its scripts only after approval. */
  install:
    'Install optional dependencies (no `--omit=optional`), or build the addon, which takes Rust ' +
    '(https://rustup.rs): "npm rebuild cistern", from npm 12 on after "npm install-scripts ' +
    'approve cistern"; with pnpm "pnpm approve-builds"; in a clone "npm run build"',
  build:
    'Build it, which takes Rust (https://rustup.rs): "npm rebuild cistern", or in a clone ' +
    '"npm run build"',
  reinstall:
    'Remove node_modules and install again on the system that is to run it; "npm rebuild ' +
    'cistern" builds the addon anew, which takes Rust (https://rustup.rs)',
  external:
    'Leave cistern out of the bundle, and install it beside that: by `external` of esbuild, ' +
    '`externals` of webpack, `serverExternalPackages` of Next.js; or have esbuild copy the file: ' +
    '`--loader:.node=copy`'
}

/**
 * Error messages, most of them the system's, with the reason behind each, and the advice.
 *
 * @type {[RegExp, string, string][]}
 */
const SAYINGS = [
  [
    /^The addon was replaced/,
    'a bundler, or a mock, gave something else in its place',
    ADVICE.external
  ],
  [
    /version `?GLIBC_[\d.]+'? not found/,
    'the file was built for a newer C library (glibc) than this system has',
    ADVICE.build
  ],
  [
    /\bl(?:ibc\.|d-)musl-/,
    'the file was built for another C library (musl), and this system has glibc',
    ADVICE.reinstall
  ],
  [
    /Error relocating|Error loading shared library|\bld-linux-|symbol not found/,
    'the file was built for another C library (glibc), and this system has musl',
    ADVICE.reinstall
  ],
  [
    /undefined symbol: (?:napi|node_api)_|procedure could not be found/,
    `this runtime lacks functions of Node-API that Node.js ${OLDEST_NODE} has`,
    `Use Node.js ${OLDEST_NODE} or later`
  ],
  [
    /failed to map segment|[Oo]peration not permitted/,
    'the system does not let code run from where the file is ' +
      '(a file system mounted with noexec, perhaps)',
    'Install cistern where programs may run'
  ],
  [
    /[Pp]ermission denied/,
    'this user may not read the file',
    'Correct the permissions of the installed package'
  ],
  [
    /wrong ELF class|incompatible architecture|mach-o, but wrong architecture|\.node: cannot open shared object file/,
    'the file was built for another processor',
    ADVICE.reinstall
  ],
  [
    /invalid ELF header|file too short|not a mach-o|not valid mach-o|not a valid Win32|%1 is not/,
    'the file is damaged, or was built for another system',
    ADVICE.reinstall
  ]
]

/**
 * Explains why the addon could not be loaded, and what to do.
 *
 * @param {string} file of the code that tried, as that names it
 * @param {readonly Error[]} errors one from each place, the first one first
 * @returns {{ reason: string, advice: string, cause: Error | undefined }}
 */
function explain(file, errors) {
  const found = errors.find((error) => !isMissing(error))
  const cause = found ?? errors[0]
  const [reason, advice] =
    ofTheRuntime(found) ?? (found === undefined ? ofAMissing(file) : ofAFound(found))
  return { reason, advice, cause }
}

/**
 * Explains why this runtime can load no addon at all.
 *
 * @param {Error | undefined} found
 * @returns {[string, string] | undefined}
 */
function ofTheRuntime(found) {
  const version = process.versions.node
  if (Number.parseInt(version, 10) < OLDEST_NODE) {
    return [`this is Node.js ${version}, which is too old`, `Use Node.js ${OLDEST_NODE} or later`]
  }
  const code = codeOf(found)
  if (code === 'ERR_DLOPEN_DISABLED') {
    return isRestricted()
      ? [
          'Node was started with --permission, and without --allow-addons',
          'Start it with --allow-addons, too'
        ]
      : ['Node was started with --no-addons', 'Start it without']
  }
  if (code === 'ERR_ACCESS_DENIED') {
    return [
      'Node was started with --permission, and may not read the addon',
      'Start it with --allow-addons, and with --allow-fs-read for the folder of cistern'
    ]
  }
  return undefined
}

/**
 * Explains why there is no file.
 *
 * @param {string} file
 * @returns {[string, string]}
 */
function ofAMissing(file) {
  if (isBundled(file)) {
    return ['this is a bundle, and the addon was left out of it', ADVICE.external]
  }
  if (existsSync(file) === false) {
    return [
      'the file system is mocked, and shows not even the file that is running',
      'Load cistern before it is mocked, or let the mock pass the folder of cistern through'
    ]
  }
  return PUBLISHED.test(platform)
    ? ['there is no file with it, and no package', ADVICE.install]
    : ['there is no binary for this platform', ADVICE.build]
}

/**
 * Explains why an existing file can't be loaded.
 *
 * @param {Error} error
 * @returns {[string, string]}
 */
function ofAFound(error) {
  const saying = SAYINGS.find(([pattern]) => pattern.test(error.message))
  if (saying !== undefined) return [saying[1], saying[2]]
  return ['the file is there, and the system refuses it', ADVICE.reinstall]
}

/**
 * Tells whether a place has no addon. Bundlers put errors of their own in the place of files that
 * they leave out.
 *
 * @param {Error} error
 */
function isMissing(error) {
  const code = codeOf(error)
  if (code === 'MODULE_NOT_FOUND' || code === 'ERR_MODULE_NOT_FOUND' || code === 'ENOENT') {
    return true
  }
  if (!PUBLISHED.test(platform) && /no such file/i.test(error.message)) return true
  return code === undefined && /cannot find|dynamic require/i.test(error.message)
}

/**
 * Tells whether this code runs from a file that is not the library's own.
 *
 * @param {string} file
 */
function isBundled(file) {
  return !/[\\/]native\.js$/.test(file)
}

/** Tells whether Node runs with `--permission`. */
function isRestricted() {
  return /** @type {any} */ (process).permission !== undefined
}

/** @param {Error | undefined} error */
function codeOf(error) {
  return /** @type {NodeJS.ErrnoException | undefined} */ (error)?.code
}

module.exports = { explain }
