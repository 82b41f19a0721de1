/** The package: its entries, its files, the agreement of its parts, and its scripts. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import cistern, { BufferPool, shared } from 'cistern'
import * as io from 'cistern/io'

const require = createRequire(import.meta.url)
const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', '..')
const { npm } = require('../support/npm.js')
const { linksOf } = require('../support/documents.js')
const { addonPackage } = require('../../lib/runtime/addon-path.js')
const native = require('../../lib/runtime/native.js')
const { toSettings } = require('../../lib/pool/options.js')
const { libcOf, platform } = require('../../lib/runtime/platform.js')
const { blockSizes, classOf } = require('../../lib/cache/size-class.js')

/**
 * Returns true if a lock file has the package that Node finds by `name` from the folder `at`.
 *
 * @param {Record<string, object>} packages
 * @param {string} at
 * @param {string} name
 */
function isLocked(packages, at, name) {
  for (let folder = at; ; folder = path.posix.dirname(folder)) {
    if (folder === '.') return `node_modules/${name}` in packages
    if (`${folder}/node_modules/${name}` in packages) return true
  }
}

/** Returns the paths of the files that npm would publish. */
function packedFiles() {
  const { stdout, stderr } = npm(root, ['pack', '--dry-run', '--json'])
  assert.notEqual(stdout, '', stderr)
  const [{ files }] = Object.values(JSON.parse(stdout))
  return new Set(files.map(({ path }) => path))
}

describe('the package', () => {
  test('gives ES modules and CommonJS the same', () => {
    const required = require('cistern')
    assert.equal(required.BufferPool, BufferPool)
    assert.equal(required.shared, shared)
    assert.equal(cistern.BufferPool, BufferPool)
    assert.deepEqual(Object.keys(required), ['BufferPool', 'shared'])
    const requiredIo = require('cistern/io')
    assert.deepEqual(Object.keys(requiredIo), ['chunks', 'end', 'onread', 'pumpFile', 'readBody'])
    assert.equal(io.default, requiredIo)
    assert.deepEqual({ ...io }, { ...requiredIo, default: requiredIo })
  })

  test('opens nothing else', () => {
    for (const subpath of ['cistern/lib/runtime/native', 'cistern/lib/io/end', 'cistern/lib/io']) {
      assert.throws(() => require(subpath), { code: 'ERR_PACKAGE_PATH_NOT_EXPORTED' })
    }
  })

  test('has no runtime dependency', () => {
    const { dependencies, peerDependencies, peerDependenciesMeta } = require('../../package.json')
    assert.equal(dependencies, undefined)
    for (const name of Object.keys(peerDependencies)) {
      assert.ok(peerDependenciesMeta[name].optional, name)
    }
  })

  test('has one version', () => {
    const { version, optionalDependencies = {} } = require('../../package.json')
    const lock = require('../../package-lock.json')
    assert.equal(lock.version, version)
    assert.equal(lock.packages.compare.version, version)
    assert.equal(require('../../compare/package.json').version, version)
    for (const file of ['Cargo.toml', 'bench/depot/Cargo.toml', 'fuzz/Cargo.toml']) {
      const manifest = readFileSync(path.join(root, file), 'utf8')
      assert.ok(manifest.includes(`\nversion = "${version}"\n`), file)
    }
    for (const file of ['Cargo.lock', 'bench/depot/Cargo.lock', 'fuzz/Cargo.lock']) {
      const locked = readFileSync(path.join(root, file), 'utf8')
      assert.ok(locked.includes(`name = "cistern"\nversion = "${version}"\n`), file)
    }
    // A release has such dependencies.
    for (const [name, of] of Object.entries(optionalDependencies)) assert.equal(of, version, name)
  })

  test('locks every package that a locked one needs, on any platform', () => {
    // Newer versions of npm refuse `npm ci` if one is missing, even one for another platform.
    const { packages } = require('../../package-lock.json')
    const missing = Object.entries(packages).flatMap(([at, of]) => {
      const names = Object.keys({
        ...of.dependencies,
        ...of.devDependencies,
        ...of.optionalDependencies
      })
      return names.filter((name) => !isLocked(packages, at, name)).map((name) => `${at}: ${name}`)
    })
    assert.deepEqual(missing, [])
  })

  test('packs what it takes to run, to be built and to be understood, and nothing else', () => {
    const packed = packedFiles()
    assert.ok(![...packed].some((file) => /(models|tests)\.rs$/.test(file)))
    for (const file of readdirSync(path.join(root, 'lib'), { recursive: true })) {
      if (/\.[a-z]+$/.test(file)) assert.ok(packed.delete(`lib/${file.replaceAll(path.sep, '/')}`))
    }
    for (const file of readdirSync(path.join(root, 'src'), { recursive: true })) {
      packed.delete(`src/${file.replaceAll(path.sep, '/')}`)
    }
    const rest = [...packed].filter((file) => !/^native\/cistern\.[a-z0-9-]+\.node$/.test(file))
    const endings = ['.d.mts', '.d.ts', '.js', '.mjs']
    const expected = endings.map((end) => `index${end}`)
    expected.push('.cargo/config.toml', 'CHANGELOG.md', 'Cargo.lock', 'Cargo.toml', 'LICENSE')
    expected.push('README.md', '.github/SECURITY.md', 'build.rs', 'package.json')
    expected.push('.github/CONTRIBUTING.md', 'compare/README.md')
    for (const folder of ['compare/examples', 'docs', 'examples']) {
      for (const file of readdirSync(path.join(root, folder))) expected.push(`${folder}/${file}`)
    }
    for (const script of ['addon', 'build', 'check-node', 'command-line', 'install', 'project']) {
      expected.push(`scripts/${script}.js`)
    }
    assert.deepEqual(rest.sort(), expected.sort())
  })

  test('packs whatever a document in it links to', () => {
    const packed = packedFiles()
    const links = [...packed].filter((file) => file.endsWith('.md')).flatMap(linksOf)
    assert.ok(links.length > 20, `${links.length} links`)
    assert.deepEqual(
      links.filter(({ file }) => !packed.has(file)),
      []
    )
  })
})

describe('a platform', () => {
  /** napi-rs' names of the platforms that have binaries. */
  const NAMES = {
    'x86_64-unknown-linux-gnu': 'linux-x64-gnu',
    'x86_64-unknown-linux-musl': 'linux-x64-musl',
    'aarch64-unknown-linux-gnu': 'linux-arm64-gnu',
    'aarch64-unknown-linux-musl': 'linux-arm64-musl',
    'x86_64-apple-darwin': 'darwin-x64',
    'aarch64-apple-darwin': 'darwin-arm64',
    'x86_64-pc-windows-msvc': 'win32-x64-msvc'
  }

  test('has the name under which napi-rs publishes its binary', () => {
    const { napi } = require('../../package.json')
    assert.deepEqual(napi.targets, Object.keys(NAMES))
    assert.ok(Object.values(NAMES).includes(platform), platform)
    assert.equal(addonPackage, `${napi.packageName}-${platform}`)
  })

  test('is built for at release', () => {
    const workflow = readFileSync(path.join(root, '.github', 'workflows', 'release.yml'), 'utf8')
    const [build] = workflow.split('\n  try:\n')
    const targets = [...build.matchAll(/^ +- target: (.*)$/gm)].map(([, target]) => target)
    assert.deepEqual(targets, Object.keys(NAMES))
  })

  test('is of musl or of glibc by the loader of its programs, and else by the report', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'cistern-libc-'))
    const program = (head) => {
      const file = path.join(folder, 'program')
      writeFileSync(file, head)
      return libcOf(file)
    }
    try {
      assert.equal(program('\x7fELF\0/lib/ld-musl-x86_64.so.1\0'), 'musl')
      assert.equal(program('\x7fELF\0/lib64/ld-linux-x86-64.so.2\0'), 'gnu')
      assert.equal(program('\x7fELF\0/lib/ld-linux-aarch64.so.1\0'), 'gnu')
      const { glibcVersionRuntime } = process.report.getReport().header
      const own = glibcVersionRuntime === undefined ? 'musl' : 'gnu'
      assert.equal(program('\x7fELF'), own)
      assert.equal(libcOf(path.join(folder, 'none')), own)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

describe('Rust and JavaScript', () => {
  test('agree on the size class of every size around an edge', () => {
    for (const [index, blockSize] of blockSizes.entries()) {
      assert.equal(classOf(blockSize), index)
      if (blockSize > 1) assert.equal(classOf(blockSize - 1), index)
      if (index + 1 < blockSizes.length) assert.equal(classOf(blockSize + 1), index + 1)
    }
    assert.equal(classOf(1), 0)
  })

  test('check what they are given all the same', () => {
    const attachment = native.open(toSettings({}))
    const noSuch = (message) => ({ code: 'ERR_INVALID_ARG_VALUE', message })
    const wrongType = { code: 'InvalidArg' }
    for (const [call, expected] of [
      [() => native.lendIdle(attachment, 1000), noSuch('no size class 1000')],
      [() => native.lendFresh(attachment, 1000), noSuch('no size class 1000')],
      [() => native.lendFresh({}, 0), wrongType],
      [() => native.lendFresh(undefined, 0), wrongType],
      [() => native.words({}), wrongType],
      [() => native.segment(attachment, 0), noSuch('no segment 0')],
      [
        () => native.detach(attachment, new ArrayBuffer(8), 0, 1000, 0),
        noSuch('no size class 1000')
      ],
      [() => native.detach(attachment, new ArrayBuffer(8), 5, 0, 0), noSuch('no row 5')],
      [() => native.detach(attachment, {}, 0, 0, 0), wrongType]
    ]) {
      assert.throws(call, expected)
    }
  })
})

describe('the scripts', () => {
  const run = (args, env) =>
    spawnSync(process.execPath, args, {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, ...env }
    })

  test('say in one sentence that cargo is missing', () => {
    const { status, stderr } = run(['scripts/build.js'], { PATH: '/nowhere' })
    assert.equal(status, 1)
    assert.match(
      stderr,
      /^cistern has to be built with Rust on .*, and there is no cargo .*rustup\.rs.*\n$/
    )
  })

  test('say in one sentence that there is no such option', () => {
    for (const [script, known] of [
      ['build', '--debug'],
      ['bench', '--no-rust']
    ]) {
      const { status, stderr } = run([`scripts/${script}.js`, '--bogus'])
      assert.equal(status, 2)
      assert.match(
        stderr,
        new RegExp(`^Unknown option '--bogus'.* \\(There are ${known}\\.\\)\\n$`)
      )
    }
  })

  test('say in one sentence that Node is too old', () => {
    const old = "Object.defineProperty(process.versions, 'node', { value: '18.20.0' });"
    for (const script of ['start', 'test', 'build', 'bench', 'fuzz', 'lint', 'docs']) {
      const { status, stderr } = run(['-e', `${old} require('./scripts/${script}.js')`])
      assert.equal(status, 1)
      assert.match(stderr, /^cistern needs Node\.js 20 or later; this is v[\d.]+\n$/)
    }
  })

  test('say in one sentence what fuzzing needs', () => {
    const { status, stderr } = run(['scripts/fuzz.js'], { PATH: '/nowhere' })
    assert.equal(status, 1)
    assert.match(stderr, /^Fuzzing needs .*: rustup toolchain install nightly .*\n$/)
    const wrong = run(['scripts/fuzz.js', '--seconds', 'a lot'])
    assert.equal(wrong.stderr, '--seconds takes a whole number above 0.\n')
  })
})
