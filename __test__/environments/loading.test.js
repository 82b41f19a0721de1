'use strict'

/**
 * How cistern loads the addon, and the error where it cannot: what the error names, and its cause.
 */

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, describe, test } = require('node:test')
const { addonPackage, addonPath } = require('../../lib/runtime/addon-path')
const { explain } = require('../../lib/runtime/load-failure')
const { platform } = require('../../lib/runtime/platform')

const root = path.join(__dirname, '..', '..')
const NATIVE = path.join(root, 'lib', 'runtime', 'native.js')
const ADDON = path.basename(addonPath)

const folder = mkdtempSync(path.join(tmpdir(), 'cistern-loading-'))
after(() => rmSync(folder, { recursive: true }))

const PERMISSION = process.allowedNodeEnvironmentFlags.has('--permission')
  ? '--permission'
  : '--experimental-permission'

/**
 * Copies the package into a project of its own.
 *
 * @param {{ addon?: Buffer | string, binding?: Buffer | string }} [contents] of the file, and of
 *   the package with it; without, it is missing
 */
function aProject({ addon, binding } = {}) {
  const project = mkdtempSync(path.join(folder, 'project-'))
  const copy = path.join(project, 'node_modules', 'cistern')
  mkdirSync(path.join(copy, 'native'), { recursive: true })
  for (const name of ['index.js', 'package.json', 'lib']) {
    cpSync(path.join(root, name), path.join(copy, name), { recursive: true })
  }
  if (addon !== undefined) writeFileSync(path.join(copy, 'native', ADDON), addon)
  if (binding !== undefined) {
    const at = path.join(project, 'node_modules', addonPackage)
    mkdirSync(at, { recursive: true })
    writeFileSync(
      path.join(at, 'package.json'),
      JSON.stringify({ name: addonPackage, main: ADDON })
    )
    writeFileSync(path.join(at, ADDON), binding)
  }
  return project
}

/** Uses cistern, and prints why it could not be loaded. */
const TRIAL = `
  try {
    const { BufferPool } = require('cistern')
    const pool = new BufferPool()
    pool.release(pool.allocUnsafe(1000))
    console.log(JSON.stringify({ releaseCount: pool.stats().releaseCount }))
  } catch ({ name, code, message, cause, errors }) {
    const show = (error) => ({ code: error.code, message: error.message })
    console.log(JSON.stringify({ name, code, message, cause: show(cause), errors: errors.map(show) }))
  }
`

/**
 * Returns the output of {@link TRIAL} in a project.
 *
 * @param {string} project
 * @param {{ flags?: string[], before?: string }} [options]
 */
function tryIn(project, { flags = [], before = '' } = {}) {
  const program = path.join(project, 'trial.js')
  writeFileSync(program, before + TRIAL)
  const env = { ...process.env, NODE_OPTIONS: '', NODE_NO_WARNINGS: '1' }
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, program], {
    encoding: 'utf8',
    env,
    timeout: 60_000
  })
  assert.equal(status, 0, stderr)
  return JSON.parse(stdout)
}

const whole = readFileSync(addonPath)
const WORKS = { releaseCount: 1 }

describe('the addon is loaded', () => {
  test('from its file', () => {
    assert.deepEqual(tryIn(aProject({ addon: whole })), WORKS)
  })

  test('from its package, where there is no file', () => {
    assert.deepEqual(tryIn(aProject({ binding: whole })), WORKS)
  })

  test('from its package, where its file is damaged', () => {
    assert.deepEqual(tryIn(aProject({ addon: 'damaged', binding: whole })), WORKS)
  })

  /** The functions of `fs` that a test allows. */
  const mocks = {
    'gives nothing': '() => undefined',
    'knows no file': "() => { throw Object.assign(new Error('on purpose'), { code: 'ENOENT' }) }",
    'says no to everything': '() => false'
  }
  for (const [name, mock] of Object.entries(mocks)) {
    test(`whatever is asked of a mocked fs that ${name}`, () => {
      const before = `
        const fs = require('node:fs')
        // Jest, sinon and others do this too: Node's own loader of modules has its own references.
        const used = ['existsSync', 'statSync', 'accessSync', 'openSync', 'readSync', 'closeSync', 'readdirSync']
        for (const name of used) fs[name] = ${mock}
      `
      assert.deepEqual(tryIn(aProject({ addon: whole }), { before }), WORKS)
    })
  }

  test('under --permission, with --allow-addons', () => {
    const flags = [PERMISSION, '--allow-addons', '--allow-fs-read=*']
    assert.deepEqual(tryIn(aProject({ addon: whole }), { flags }), WORKS)
  })
})

/**
 * Asserts what an error is, and that it keeps both causes.
 *
 * @param {any} error
 * @param {RegExp} reason right behind the platform
 * @param {(string | undefined)[]} codes of what was tried
 * @param {number} decisive which of them is the cause
 */
function refused(error, reason, codes, decisive = 0) {
  assert.equal(error.code, 'ERR_CISTERN_ADDON_MISSING')
  assert.equal(error.name, 'Error')
  const start = `cistern's addon for ${platform} could not be loaded: `
  assert.equal(error.message.slice(0, start.length), start)
  assert.match(error.message.slice(start.length), new RegExp(`^${reason.source}`))
  assert.deepEqual(
    error.errors.map(({ code }) => code),
    codes
  )
  assert.deepEqual(error.cause, error.errors[decisive])
  assert.ok(error.message.includes(error.cause.message.split('\n')[0]), 'says what the system said')
}

describe('on a platform that has no package', () => {
  /** Makes cistern take this platform for another. */
  const before = `
    const platform = require('./node_modules/cistern/lib/runtime/platform.js')
    platform.platform = 'plan9-x64'
  `

  test('the addon that was built there is loaded', () => {
    const project = aProject()
    const native = path.join(project, 'node_modules', 'cistern', 'native')
    writeFileSync(path.join(native, 'cistern.plan9-x64.node'), whole)
    assert.deepEqual(tryIn(project, { before }), WORKS)
  })

  test('the error says that there is no binary, and how to build one', () => {
    const { message, errors } = tryIn(aProject(), { before })
    assert.match(
      message,
      /^cistern's addon for plan9-x64 could not be loaded: there is no binary for this platform\. Build it/
    )
    assert.equal(errors.length, 1)
  })
})

describe('the error names', () => {
  test('a missing file, and how to get one', () => {
    const error = tryIn(aProject())
    refused(error, /there is no file with it, and no package\. Install /, [
      'MODULE_NOT_FOUND',
      'MODULE_NOT_FOUND'
    ])
    for (const advice of ['npm rebuild cistern', 'pnpm approve-builds', 'https://rustup.rs']) {
      assert.ok(error.message.includes(advice), error.message)
    }
  })

  test('--permission without --allow-addons, and not Rust', () => {
    const error = tryIn(aProject({ addon: whole }), { flags: [PERMISSION, '--allow-fs-read=*'] })
    refused(
      error,
      /Node was started with --permission, and without --allow-addons\. Start it with/,
      ['ERR_DLOPEN_DISABLED', 'MODULE_NOT_FOUND']
    )
    assert.doesNotMatch(error.message, /rust|npm/i)
  })

  test('--no-addons', () => {
    // Node then resolves no package's condition "node-addons", and loads no addon.
    const error = tryIn(aProject({ addon: whole }), { flags: ['--no-addons'] })
    refused(error, /Node was started with --no-addons\./, [
      'ERR_DLOPEN_DISABLED',
      'MODULE_NOT_FOUND'
    ])
  })

  test('a damaged file', () => {
    const error = tryIn(aProject({ addon: 'damaged, and long enough to be looked at'.repeat(100) }))
    refused(error, /the file /, ['ERR_DLOPEN_FAILED', 'MODULE_NOT_FOUND'])
    if (process.platform === 'linux') {
      assert.match(error.message, /the file is damaged, or was built for another system\. Remove/)
    }
  })

  test('a file for another processor, be it the package’s', {
    skip: process.platform !== 'linux'
  }, () => {
    const other = Buffer.from(whole)
    // The machine of an ELF file: SPARC.
    other.writeUInt16LE(2, 18)
    const reason = /the file was built for another processor\. Remove node_modules/
    const codes = ['ERR_DLOPEN_FAILED', 'MODULE_NOT_FOUND']
    refused(tryIn(aProject({ addon: other })), reason, codes)
    refused(tryIn(aProject({ binding: other })), reason, codes.reverse(), 1)
  })

  test('what gave something else in its place', () => {
    const before = `
      const Module = require('node:module')
      const load = Module._load
      Module._load = (request, ...rest) => /\\.node$|binding/.test(request) ? {} : load(request, ...rest)
    `
    const error = tryIn(aProject({ addon: whole }), { before })
    refused(error, /a bundler, or a mock, gave something else in its place\. /, [
      undefined,
      undefined
    ])
  })

  test('a mocked file system that hides the file', () => {
    const before = "require('node:fs').existsSync = () => false\n"
    const error = tryIn(aProject(), { before })
    refused(error, /the file system is mocked/, ['MODULE_NOT_FOUND', 'MODULE_NOT_FOUND'])
  })

  test('a Node that is too old', () => {
    const before = "Object.defineProperty(process.versions, 'node', { value: '18.20.0' })\n"
    const error = tryIn(aProject(), { before })
    refused(error, /this is Node\.js 18\.20\.0, which is too old\. Use Node\.js 20/, [
      'MODULE_NOT_FOUND',
      'MODULE_NOT_FOUND'
    ])
  })

  /** Messages of the systems' loaders, as users have reported them. */
  const sayings = {
    "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /app/x.node)":
      /newer C library/,
    'libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory':
      /\(musl\), and this system has glibc/,
    'Error loading shared library ld-linux-x86-64.so.2: No such file or directory (needed by x.node)':
      /\(glibc\), and this system has musl/,
    'Error relocating /app/x.node: __register_atfork: symbol not found': /this system has musl/,
    '/app/x.node: undefined symbol: node_api_create_buffer_from_arraybuffer': /Node-API/,
    '/app/x.node: failed to map segment from shared object': /noexec/,
    '/app/x.node: cannot open shared object file: Permission denied': /may not read/,
    '/app/x.node: wrong ELF class: ELFCLASS32': /another processor/,
    "dlopen(/app/x.node, 0x0001): tried: '/app/x.node' (mach-o file, but is an incompatible architecture (have 'x86_64', need 'arm64'))":
      /another processor/,
    "dlopen(/app/x.node, 0x0001): tried: '/app/x.node' (slice is not valid mach-o file)": /damaged/,
    '\\\\?\\C:\\x.node is not a valid Win32 application.': /damaged/,
    '/home/build-linux/x.node: invalid ELF header': /damaged/,
    'something that nobody has heard of': /the system refuses it/
  }
  for (const [message, expected] of Object.entries(sayings)) {
    test(`the reason of: ${message}`, () => {
      const error = Object.assign(new Error(message), { code: 'ERR_DLOPEN_FAILED' })
      const missing = Object.assign(new Error('none'), { code: 'MODULE_NOT_FOUND' })
      for (const errors of [
        [error, missing],
        [missing, error]
      ]) {
        const { reason, advice, cause } = explain(NATIVE, errors)
        assert.match(reason, expected)
        assert.ok(advice.length > 0)
        assert.equal(cause, error)
      }
    })
  }

  test('a bundle, by the file that runs', () => {
    const missing = Object.assign(new Error('none'), { code: 'MODULE_NOT_FOUND' })
    const notSupported = new Error('Dynamic require of "../native/x.node" is not supported')
    for (const error of [missing, notSupported]) {
      for (const file of ['/app/dist/server.js', '']) {
        const { reason, advice } = explain(file, [error, error])
        assert.match(reason, /^this is a bundle/)
        assert.match(advice, /external/)
      }
    }
  })
})
