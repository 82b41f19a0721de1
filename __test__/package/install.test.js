'use strict'

/** npm installs the package into empty projects. */

const assert = require('node:assert/strict')
const { execFileSync, spawnSync } = require('node:child_process')
const {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, before, describe, test } = require('node:test')
const { npm } = require('../support/npm')
const { addonPackage, addonPath } = require('../../lib/runtime/addon-path')
const { platform } = require('../../lib/runtime/platform')

const root = path.join(__dirname, '..', '..')

/** Cargo's, kept from one run to the next. */
const CARGO_TARGET_DIR = path.join(root, 'target', 'install')

/** From npm 12 on a user has to approve them. Older ones don't know the setting. */
const RUNS_SCRIPTS = { npm_config_dangerously_allow_all_scripts: 'true' }

/**
 * Uses each entry, from CommonJS and from an ES module, and a Buffer of memory of the addon's own.
 */
const TRIAL = `
  import assert from 'node:assert/strict'
  import { createRequire } from 'node:module'
  import cistern, { BufferPool, shared } from 'cistern'
  import { readBody } from 'cistern/io'
  import { register } from 'cistern/metrics'

  const require = createRequire(import.meta.url)
  assert.equal(require('cistern'), cistern)
  assert.equal(require('cistern/io').readBody, readBody)
  assert.equal(require('cistern/metrics').register, register)

  const pool = new BufferPool()
  const buffer = pool.allocUnsafe(100_000).fill(7)
  pool.release(buffer)
  shared.lease(100_000).release()
  assert.equal(pool.stats().releaseCount, 1)
`

describe('the tarball', {
  skip: process.platform === 'win32' && 'it makes a PATH of links'
}, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'cistern-install-'))
  after(() => rmSync(folder, { recursive: true }))

  /** A tarball with the binary. */
  let whole = ''
  /** A tarball without it, as it is published. */
  let bare = ''
  before(() => {
    whole = pack(root)
    const unpacked = path.join(folder, 'bare')
    mkdirSync(unpacked)
    execFileSync('tar', ['-xf', whole, '-C', unpacked])
    rmSync(path.join(unpacked, 'package', 'native'), { recursive: true })
    bare = pack(path.join(unpacked, 'package'))
  })

  test('is no larger than the README says', () => {
    const readme = readFileSync(path.join(root, 'README.md'), 'utf8')
    const sentence = /at most\s+([\d.]+)\s+MB\s+to download\s+and\s+([\d.]+)\s+MB on disk/
    const [packed, unpacked] = (sentence.exec(readme) ?? []).slice(1).map((text) => text * 1e6)
    const { stdout } = npm(root, ['pack', '--dry-run', '--json'])
    const [{ size, unpackedSize }] = Object.values(JSON.parse(stdout))
    assert.ok(size <= packed, `${size} bytes packed`)
    assert.ok(unpackedSize <= unpacked, `${unpackedSize} bytes unpacked`)
  })

  test('is used as it comes, with its binary and without cargo', () => {
    const project = anEmptyProject()
    const { status, stderr } = install(project, whole, { PATH: aPathWithoutCargo() })
    assert.equal(status, 0, stderr)
    tries(project)
    assert.ok(!existsSync(path.join(project, 'node_modules', 'cistern', 'target')), 'built')
    // No dependency came along.
    assert.deepEqual(Object.keys(lockOf(project).packages), ['', 'node_modules/cistern'])
  })

  test('is used with the package that has its binary, without scripts', () => {
    const project = anEmptyProject()
    const binding = path.join(folder, 'binding')
    mkdirSync(binding)
    cpSync(addonPath, path.join(binding, path.basename(addonPath)))
    const { version } = require('../../package.json')
    const main = path.basename(addonPath)
    writeFileSync(
      path.join(binding, 'package.json'),
      JSON.stringify({ name: addonPackage, version, main })
    )
    const { status, stderr } = install(project, bare, {}, [pack(binding), '--ignore-scripts'])
    assert.equal(status, 0, stderr)
    tries(project)
  })

  test('is built by cargo where it has no binary', () => {
    const project = anEmptyProject()
    const { status, stderr } = install(project, bare, { CARGO_TARGET_DIR })
    assert.equal(status, 0, stderr)
    tries(project)
  })

  test('is built by cargo where its binary can not be loaded', () => {
    const project = anEmptyProject()
    install(project, whole, {}, ['--ignore-scripts'])
    const addon = path.join(project, 'node_modules', 'cistern', 'native', path.basename(addonPath))
    writeFileSync(addon, 'of a newer system')
    // Stands for the folder that cargo uses by default.
    const left = path.join(project, 'node_modules', 'cistern', 'target')
    mkdirSync(left)
    const { status, stderr } = npm(project, ['rebuild', 'cistern'], {
      ...RUNS_SCRIPTS,
      CARGO_TARGET_DIR
    })
    assert.equal(status, 0, stderr)
    tries(project)
    assert.ok(!existsSync(left), 'what cargo left')
  })

  test('says in one sentence what to do where it has no binary and there is no cargo', () => {
    const project = anEmptyProject()
    const { status, stderr } = install(project, bare, { PATH: aPathWithoutCargo() })
    assert.equal(status, 1)
    assert.match(
      stderr,
      new RegExp(`^npm error cistern has to be built .*${platform}.*rustup`, 'm')
    )
    assert.ok(!stderr.includes('    at '), stderr)
  })

  /**
   * @param {string} source a folder
   */
  function pack(source) {
    const { status, stdout, stderr } = npm(source, ['pack', '--pack-destination', folder])
    assert.equal(status, 0, stderr)
    const tarball = path.join(folder, String(stdout.trim().split('\n').at(-1)))
    const kept = tarball.replace(/\.tgz$/, `-${path.basename(source)}.tgz`)
    cpSync(tarball, kept)
    return kept
  }

  function anEmptyProject() {
    const project = mkdtempSync(path.join(folder, 'project-'))
    writeFileSync(path.join(project, 'package.json'), '{ "private": true }')
    return project
  }

  /** Returns a PATH with the programs that npm needs, and no others. */
  function aPathWithoutCargo() {
    const bin = mkdtempSync(path.join(folder, 'bin-'))
    symlinkSync(process.execPath, path.join(bin, 'node'))
    symlinkSync('/bin/sh', path.join(bin, 'sh'))
    return bin
  }

  /**
   * @param {string} project
   * @param {string} tarball
   * @param {NodeJS.ProcessEnv} [env]
   * @param {string[]} [args]
   */
  function install(project, tarball, env, args = []) {
    return npm(project, ['install', '--offline', tarball, ...args], { ...RUNS_SCRIPTS, ...env })
  }

  /** @param {string} project */
  function tries(project) {
    const file = path.join(project, 'trial.mjs')
    writeFileSync(file, TRIAL)
    const { status, stderr } = spawnSync(process.execPath, [file], { encoding: 'utf8' })
    assert.equal(status, 0, stderr)
  }

  /** @param {string} project */
  function lockOf(project) {
    return JSON.parse(readFileSync(path.join(project, 'package-lock.json'), 'utf8'))
  }
})
