/** What is around the pool: the entries of the package, the agreement of its parts, its scripts. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import cistern, { BufferPool, shared } from 'cistern'
import * as io from 'cistern/io'

const require = createRequire(import.meta.url)
const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..')
const native = require('../lib/native.js')
const { toSettings } = require('../lib/options.js')
const { blockSizes, classOf } = require('../lib/size-class.js')

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
    for (const subpath of ['cistern/lib/native', 'cistern/lib/io/end', 'cistern/io.js']) {
      assert.throws(() => require(subpath), { code: 'ERR_PACKAGE_PATH_NOT_EXPORTED' })
    }
  })

  test('has no runtime dependency', () => {
    const { dependencies, peerDependencies, peerDependenciesMeta } = require('../package.json')
    assert.equal(dependencies, undefined)
    for (const name of Object.keys(peerDependencies)) {
      assert.ok(peerDependenciesMeta[name].optional, name)
    }
  })

  test('has one version', () => {
    const version = JSON.stringify(require('../package.json').version)
    const manifest = readFileSync(path.join(root, 'Cargo.toml'), 'utf8')
    assert.ok(manifest.includes(`\nversion = ${version}\n`))
    assert.equal(JSON.stringify(require('../compare/package.json').version), version)
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
    for (const call of [
      () => native.lendIdle(attachment, 1000),
      () => native.lendFresh(attachment, 1000),
      () => native.lendFresh({}, 0),
      () => native.lendFresh(undefined, 0),
      () => native.words({}),
      () => native.segment(attachment, 0),
      () => native.detach(attachment, new ArrayBuffer(8), 5, 0, false),
      () => native.detach(attachment, {}, 0, 0, false)
    ]) {
      assert.throws(call)
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
    assert.match(stderr, /^cistern is built with Rust, and there is no cargo .*rustup\.rs.*\n$/)
  })

  test('say in one sentence that Node is too old', () => {
    const old = "Object.defineProperty(process.versions, 'node', { value: '18.20.0' });"
    for (const script of ['start', 'test', 'build', 'bench', 'lint', 'docs']) {
      const { status, stderr } = run(['-e', `${old} require('./scripts/${script}.js')`])
      assert.equal(status, 1)
      assert.match(stderr, /^cistern needs Node\.js 20 or later; this is v[\d.]+\n$/)
    }
  })

  test('say in one sentence that the addon is missing', () => {
    const { status, stderr } = run([
      '-e',
      `const file = require.resolve('./lib/addon-path.js')
       require.cache[file] = { exports: { addonPath: '/nowhere/cistern.node' } }
       try { require('cistern') } catch (error) { console.error(error.code, error.message); process.exit(1) }`
    ])
    assert.equal(status, 1)
    assert.match(stderr, /^ERR_CISTERN_ADDON_MISSING .*npm run build/)
  })
})
