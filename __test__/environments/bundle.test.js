'use strict'

/**
 * cistern in a bundle, where its code and the user's are one file: which files it loads, and which
 * call sites it reports.
 */

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync
} = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { after, describe, test } = require('node:test')
const { build } = require('esbuild')
const { addonPath } = require('../../lib/runtime/addon-path')

const root = path.join(__dirname, '..', '..')

/** The path without links, because esbuild names files so. */
const folder = mkdtempSync(path.join(tmpdir(), 'cistern-bundle-'))
after(() => rmSync(folder, { recursive: true }))

/** Leases in every way, each by a function with a name of its own, and prints who holds what. */
const PROGRAM = `
  const { BufferPool } = require('cistern')
  const { chunks, readBody } = require('cistern/io')
  const { Readable } = require('node:stream')

  const rate = { leakSampleRate: 1 }
  const held = []
  const sites = {}
  const ways = {
    byAllocUnsafe(pool) { held.push(pool.allocUnsafe(1000)) },
    byAlloc(pool) { held.push(pool.alloc(1000)) },
    byFill(pool) { held.push(pool.alloc(1000, 'x')) },
    byLease(pool) { held.push(pool.lease(1000)) },
    byByteBuffer(pool) { held.push(pool.byteBuffer(1000)) },
    byAppend(pool) { held[held.length - 1].append(Buffer.alloc(100_000)) },
    async byAcquire(pool) { held.push(await pool.acquire(1000)) },
    async byReadBody(pool) {
      held.push(await readBody(pool, Readable.from([Buffer.alloc(10)]), { limit: 1000, length: 10 }))
    },
    async byChunks(pool) {
      const chunk = chunks(pool, __filename, { chunkSize: 2 ** 22 })[Symbol.asyncIterator]()
      held.push(chunk, await chunk.next())
    }
  }

  async function main() {
    for (const [name, way] of Object.entries(ways)) {
      const pool = name === 'byAppend' ? held.pool : new BufferPool(rate)
      held.pool = pool
      await way(pool)
      sites[name] = pool.holders().map(({ stack }) => stack)
    }
    const small = new BufferPool({ ...rate, maxBytes: 1024 })
    const inTheWay = small.allocUnsafe(1000)
    const waiting = (function byWaiting() { return small.acquire(1000) })()
    small.release(inTheWay)
    held.push(await waiting)
    sites.byWaiting = small.holders().map(({ stack }) => stack)

    const saved = Error.prepareStackTrace
    let formatted = 0
    const pool = new BufferPool(rate)
    Error.prepareStackTrace = (_, frames) => { formatted++; return 'x\\n' + frames.join('\\n') }
    ;(function byFormatter() { held.push(pool.allocUnsafe(1000)) })()
    Error.prepareStackTrace = saved
    sites.byFormatter = pool.holders().map(({ stack }) => stack)
    console.log(JSON.stringify({ sites, formatted, limit: Error.stackTraceLimit }))
  }
  main()
`

/**
 * Bundles a program in a project that has cistern installed, into a folder of its own.
 *
 * @param {string} program
 * @param {import('esbuild').BuildOptions} options
 * @returns {Promise<{ file: string, folder: string, leave(): void }>}
 */
async function bundle(program, options) {
  const project = mkdtempSync(path.join(folder, 'project-'))
  const modules = path.join(project, 'node_modules')
  mkdirSync(modules)
  symlinkSync(root, path.join(modules, 'cistern'), 'junction')
  const entry = path.join(project, 'main.js')
  writeFileSync(entry, program)
  const outdir = path.join(project, 'out')
  await build({
    entryPoints: [entry],
    outdir,
    bundle: true,
    platform: 'node',
    logLevel: 'silent',
    absWorkingDir: project,
    ...options
  })
  return {
    file: path.join(outdir, 'main.js'),
    folder: outdir,
    leave: () => rmSync(modules, { recursive: true })
  }
}

/**
 * @param {string} file
 * @param {string[]} [flags]
 */
function run(file, flags = []) {
  // No option replaces the addon that the bundle has.
  const env = { ...process.env, NODE_OPTIONS: '' }
  return spawnSync(process.execPath, [...flags, file], { encoding: 'utf8', timeout: 60_000, env })
}

const COPY = /** @type {const} */ ({ loader: { '.node': 'copy' } })

describe('in a bundle by esbuild', () => {
  test('whose .node files are copied, the addon is loaded without node_modules', async () => {
    const { file, folder, leave } = await bundle(PROGRAM, COPY)
    leave()
    const { status, stderr } = run(file)
    assert.equal(status, 0, stderr)
    assert.equal(readdirSync(folder).filter((name) => name.endsWith('.node')).length, 1)
  })

  for (const minify of [false, true]) {
    test(`the call site of each way to lease is the user’s, minify: ${minify}`, async () => {
      const { file } = await bundle(PROGRAM, {
        ...COPY,
        minify,
        keepNames: true
      })
      const { status, stdout, stderr } = run(file)
      assert.equal(status, 0, stderr)
      const { sites, formatted, limit } = JSON.parse(stdout)
      // Node has called back, so no caller is the user's code.
      const { byChunks, ...others } = sites
      assert.equal(byChunks.length, 1)
      assert.doesNotMatch(byChunks[0], /main\.js/)
      for (const [name, stacks] of Object.entries(others)) {
        assert.equal(stacks.length, 1, name)
        const [first] = stacks[0].split('\n')
        assert.match(
          first,
          new RegExp(`(?:at (?:async )?|\\.)${name} \\(.*main\\.js:\\d+:\\d+\\)$|^${name} `),
          name
        )
      }
      assert.equal(formatted, 1, 'the user’s formatter is asked once')
      assert.equal(limit, 10)
    })
  }

  test('no frame of cistern’s is in a call site, as the source map shows', async () => {
    const { file } = await bundle(PROGRAM, { ...COPY, sourcemap: true })
    const { status, stdout, stderr } = run(file, ['--enable-source-maps'])
    assert.equal(status, 0, stderr)
    const { sites } = JSON.parse(stdout)
    const lib = path.join(root, 'lib') + path.sep
    for (const [name, stacks] of Object.entries(sites)) {
      assert.ok(!stacks[0].includes(lib), `${name}: ${stacks[0]}`)
    }
    assert.match(sites.byAllocUnsafe[0], /project-.*[\\/]main\.js:/)
  })

  test('that is an ES module, which has no name of its own file, all of it works', async () => {
    const program = `
      const { BufferPool } = require('cistern')
      const { chunks } = require('cistern/io')
      const pool = new BufferPool({ leakSampleRate: 1 })
      ;(function byAllocUnsafe() { globalThis.held = pool.allocUnsafe(1000) })()
      const sites = pool.holders().map(({ stack }) => stack)
      let refused
      try { chunks({}, 'file') } catch ({ code }) { refused = code }
      console.log(JSON.stringify({ sites, refused }))`
    const { file, leave } = await bundle(program, {
      ...COPY,
      format: 'esm',
      outExtension: { '.js': '.mjs' },
      banner: {
        js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)"
      }
    })
    leave()
    const { status, stdout, stderr } = run(file.replace(/js$/, 'mjs'))
    assert.equal(status, 0, stderr)
    const { sites, refused } = JSON.parse(stdout)
    assert.match(sites[0], /^ *at byAllocUnsafe \(/)
    assert.equal(refused, 'ERR_INVALID_ARG_TYPE')
  })

  test('that leaves cistern out as external, it is loaded from node_modules', async () => {
    const { file } = await bundle(PROGRAM, { external: ['cistern'] })
    const { status, stdout, stderr } = run(file)
    assert.equal(status, 0, stderr)
    assert.match(JSON.parse(stdout).sites.byAllocUnsafe[0], /byAllocUnsafe/)
  })

  test('without a loader for .node, the build names the file', async () => {
    const building = bundle(PROGRAM, {})
    await assert.rejects(building, ({ errors }) => {
      assert.match(errors[0].text, /No loader is configured for "\.node" files/)
      assert.ok(errors[0].text.includes(path.basename(addonPath)))
      return true
    })
  })

  test('that has lost the addon, the error says that it is a bundle', async () => {
    const { file } = await bundle(PROGRAM, { external: ['*.node'] })
    const { status, stderr } = run(file)
    assert.equal(status, 1)
    assert.match(
      stderr,
      /could not be loaded: this is a bundle, and the addon was left out of it\./
    )
    assert.match(stderr, /ERR_CISTERN_ADDON_MISSING/)
  })

  test('that has the addon’s name in its place, the error says so', async () => {
    const { file } = await bundle(PROGRAM, { loader: { '.node': 'file' } })
    const { status, stderr } = run(file)
    assert.equal(status, 1)
    assert.match(stderr, /a bundler, or a mock, gave something else in its place/)
  })
})
