'use strict'

/**
 * Other people's environments: registries of modules that are emptied, fake timers, windows, other
 * realms, polyfills and frozen prototypes. In each of them everything has to work as it does
 * elsewhere.
 */

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { Readable, Writable } = require('node:stream')
const { after, describe, mock, test } = require('node:test')
const { pathToFileURL } = require('node:url')
const vm = require('node:vm')
const promClient = require('prom-client')
const cistern = require('../..')
const io = require('../../lib/io')
const metrics = require('../../lib/metrics')
const { everyday } = require('../support/everyday')
const { MODES, balanced, external, inEveryMode, moves, posts } = require('../support/helpers')
const { TRANSPORTS, serving } = require('../support/io-servers')
const { Modules } = require('../support/modules')

const { BufferPool } = cistern
const root = path.join(__dirname, '..', '..')
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-environments-'))
after(() => fs.rmSync(folder, { recursive: true, force: true }))

const file = path.join(folder, 'file')
fs.writeFileSync(file, 'all of it')

/** A window's timers: numbers. */
const NUMBERED = `
  let last = 0
  globalThis.setTimeout = globalThis.setInterval = () => ++last
  globalThis.clearTimeout = globalThis.clearInterval = () => {}
`

/** jsdom's window has no `setImmediate`. */
const WINDOW = `
  ${NUMBERED}
  globalThis.window = globalThis
  delete globalThis.setImmediate
  delete globalThis.clearImmediate
`

/** Fakes of everything, whose clock never goes on. */
const FAKES = `
  const { performance } = globalThis
  ${NUMBERED}
  globalThis.setImmediate = () => ++last
  globalThis.queueMicrotask = () => {}
  globalThis.performance = { now: () => 0 }
  Date.now = () => 0
`

/**
 * Runs the everyday scenario in a process of its own.
 *
 * @param {{ before?: string, after?: string, flags?: string[], env?: NodeJS.ProcessEnv }} environment
 *   code that runs before cistern is loaded, and after that
 */
function runEveryday({ before = '', after = '', flags = [], env = {} }) {
  const name = (/** @type {string} */ name) => JSON.stringify(path.join(root, name))
  const source = `
    const { everyday } = require(${name('__test__/support/everyday.js')})
    ;(() => { ${before} })()
    const modules = {
      cistern: require(${name('index.js')}),
      io: require(${name('lib/io/index.js')}),
      metrics: require(${name('lib/metrics/index.js')})
    }
    ;(() => { ${after} })()
    everyday(modules).then(() => console.log('done'))`
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [...flags, '-e', source], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 120_000
  })
  assert.deepEqual(
    { status, signal, stdout },
    { status: 0, signal: null, stdout: 'done\n' },
    stderr
  )
}

/** @param {AsyncIterable<Buffer>} source */
async function textOf(source) {
  let text = ''
  for await (const chunk of source) text += chunk.toString()
  return text
}

describe('a registry of modules', () => {
  test('that is emptied, as by jest.resetModules(), leaves what is loaded as it is', async () => {
    const modules = new Modules()
    const loaded = modules.loadCistern()
    modules.reset()
    await everyday(loaded)
  })

  test('that has ended is not asked for anything any more', async () => {
    const modules = new Modules()
    const loaded = modules.loadCistern()
    modules.end()
    await everyday(loaded)
    await answerByHttp2(loaded)
  })

  test('may be require.cache, emptied by a reloader', () => {
    runEveryday({ after: 'for (const file in require.cache) delete require.cache[file]' })
  })

  test('that loads the same files again gives a copy of its own, and errors say so', async () => {
    const modules = new Modules()
    const loaded = modules.loadCistern()
    await everyday(loaded)
    const pool = new BufferPool()
    const expected = {
      name: 'TypeError',
      code: 'ERR_INVALID_ARG_TYPE',
      message:
        'The "pool" argument must be an instance of BufferPool. Received one of cistern as it was loaded before, ' +
        `or again, from '${root}': the cache of modules was emptied in between`
    }
    assert.throws(() => loaded.io.chunks(pool, file), expected)
    assert.throws(() => loaded.io.end(pool, new Writable(), Buffer.alloc(0)), expected)
    assert.throws(() => loaded.metrics.register(pool, promClient), expected)
    await assert.rejects(loaded.io.readBody(pool, Readable.from([])), expected)
    await assert.rejects(
      io.pumpFile(new loaded.cistern.BufferPool(), file, new Writable()),
      expected
    )
  })

  test('that has a second copy of the package: errors say where each is from', async () => {
    const other = copyPackage()
    const otherCistern = require(path.join(other, 'index.js'))
    const pool = new BufferPool()
    const foreign = new otherCistern.BufferPool()
    await assert.rejects(io.readBody(foreign, Readable.from([])), {
      code: 'ERR_INVALID_ARG_TYPE',
      message:
        'The "pool" argument must be an instance of BufferPool. Received one of another copy of cistern, ' +
        `loaded from '${other}'; this one is loaded from '${root}'`
    })
    // If one addon replaces all, both copies load it.
    if (process.env.CISTERN_ADDON === undefined) {
      assert.throws(() => BufferPool.attach(foreign.handle), {
        code: 'ERR_CISTERN_INVALID_HANDLE',
        message: /another copy of cistern/
      })
    }
    const buffer = foreign.alloc(100, 7)
    assert.throws(() => pool.release(buffer), { code: 'ERR_CISTERN_NOT_POOLED' })
    assert.ok(foreign.owns(buffer) && buffer.every((byte) => byte === 7))
    foreign.release(buffer)
    await balanced(pool)
    await balanced(foreign)
  })

  for (const { mode, options } of MODES) {
    test(`with two copies at the ends of one pool, ${mode}: each block has one owner`, async () => {
      const other = new Modules().loadCistern().cistern.BufferPool
      const pool = new BufferPool({ ...options, maxBytes: 1024 * 1024 })
      const end = other.attach(pool.handle)
      assert.notEqual(end, pool)
      for (let i = 0; i < 20; i++) {
        const leases = Array.from({ length: 20 }, (_, at) =>
          (at % 2 === 0 ? pool : end).allocUnsafe(1000 + at).fill(at)
        )
        for (const [at, lease] of leases.entries()) {
          assert.ok(lease.every((byte) => byte === at))
          const [mine, others] = at % 2 === 0 ? [pool, end] : [end, pool]
          const releaser = external && at % 4 < 2 ? others : mine
          releaser.release(lease)
          for (const any of [pool, end]) {
            assert.throws(() => any.release(lease), /ERR_CISTERN|ALREADY_RELEASED|NOT_POOLED/)
          }
        }
      }
      await balanced(pool)
      assert.equal(pool.stats().inUseCount, 0)
      assert.deepEqual(end.stats(), pool.stats())
    })
  }

  test('has no say in the mark of a copy, which opens nothing', () => {
    const mark = BufferPool.prototype[Symbol.for('cistern.copy')]
    assert.ok(Object.isFrozen(mark))
    const forged = { [Symbol.for('cistern.copy')]: mark }
    assert.throws(() => io.chunks(forged, file), { code: 'ERR_INVALID_ARG_TYPE' })
    let isAsked = false
    const asking = {
      get [Symbol.for('cistern.copy')]() {
        isAsked = true
        return { folder: '/' }
      }
    }
    for (const pool of [asking, new Proxy(asking, {}), Object.create(new Proxy(asking, {}))]) {
      assert.throws(() => io.chunks(pool, file), { code: 'ERR_INVALID_ARG_TYPE' })
    }
    assert.equal(isAsked, false)
  })

  test('a pool that only has the prototype of one is refused as an argument', () => {
    for (const pool of [Object.create(BufferPool.prototype), new Proxy(new BufferPool(), {})]) {
      assert.throws(() => io.chunks(pool, file), { code: 'ERR_INVALID_ARG_TYPE' })
      assert.throws(() => metrics.register(pool, promClient), { code: 'ERR_INVALID_ARG_TYPE' })
    }
  })
})

/**
 * Answers by the classes of a module that is loaded late.
 *
 * @param {import('../support/everyday').Cistern} modules
 */
async function answerByHttp2({ cistern: { BufferPool }, io }) {
  const pool = new BufferPool()
  const { createServer, send } = TRANSPORTS.find(({ name }) => name === 'http2')
  const server = createServer((_, res) => {
    io.end(pool, res, pool.allocUnsafe(9).fill('all of it'))
  })
  await serving(server, async (port) => {
    const { body } = await send({ port, method: 'GET' })
    assert.equal(body.toString(), 'all of it')
  })
  await balanced(pool)
  assert.equal(pool.stats().inUseCount, 0)
}

/** Copies the package, with an addon of its own. */
function copyPackage() {
  const other = path.join(fs.realpathSync(folder), 'other')
  for (const name of ['index.js', 'lib', 'native']) {
    fs.cpSync(path.join(root, name), path.join(other, name), { recursive: true })
  }
  return other
}

describe('timers', () => {
  test('that are fakes before cistern is loaded change nothing', () => {
    runEveryday({ before: FAKES })
  })

  test('that are fakes after cistern is loaded change nothing', () => {
    runEveryday({ after: FAKES })
  })

  test('that are those of node:test, in its own modules too, change nothing', async () => {
    mock.timers.enable()
    try {
      await everyday({ cistern, io, metrics })
    } finally {
      mock.timers.reset()
    }
  })

  test('that are those of node:test before cistern is loaded change nothing', () => {
    const before = "require('node:test').mock.timers.enable()"
    runEveryday({ before })
    runEveryday({ before, after: "require('node:test').mock.timers.reset()" })
  })

  test('of a window, which are numbers, and no setImmediate, change nothing', () => {
    runEveryday({ before: WINDOW })
    runEveryday({ after: WINDOW })
  })

  test('of which a process has fakes even for its next tick change nothing', async () => {
    const faked = Object.create(process, { nextTick: { value() {} } })
    const modules = new Modules(undefined, { 'node:process': faked, process: faked })
    await everyday(modules.loadCistern())
  })
})

describe('another realm', () => {
  test('is one where cistern can be loaded, without any global of Node', async () => {
    const context = vm.createContext({})
    vm.runInContext(WINDOW, context)
    const modules = new Modules(context)
    const loaded = modules.loadCistern()
    assert.ok(!(loaded.cistern.BufferPool instanceof Function), 'its realm is another one')
    await everyday(loaded)
  })

  test('may have a class of its own for URLs of files', async () => {
    const pool = new BufferPool()
    const url = foreignUrl(pathToFileURL(file))
    assert.ok(!(url instanceof URL))
    assert.equal(await textOf(io.chunks(pool, url)), 'all of it')
    const pieces = []
    const writable = new Writable({ write: (chunk, _, done) => done(void pieces.push(chunk)) })
    assert.equal(await io.pumpFile(pool, url, writable), 9)
    assert.equal(Buffer.concat(pieces).toString(), 'all of it')
    await balanced(pool)
  })

  test('may have URLs that are no files, which are refused as Node refuses its own', async () => {
    const pool = new BufferPool()
    for (const url of [new URL('http://localhost/'), foreignUrl(new URL('http://localhost/'))]) {
      await assert.rejects(io.chunks(pool, url).next(), { code: 'ERR_INVALID_URL_SCHEME' })
      await assert.rejects(io.pumpFile(pool, url, new Writable()), {
        code: 'ERR_INVALID_URL_SCHEME'
      })
    }
    // An object of node:url's first parser, which Node refuses.
    const parsed = { href: 'file:///x', protocol: 'file:', path: '/x', auth: null }
    assert.throws(() => io.chunks(pool, parsed), { code: 'ERR_INVALID_ARG_TYPE' })
  })

  test('may have signals of its own', async () => {
    const pool = new BufferPool({ maxBytes: 1024 * 1024 })
    const held = pool.allocUnsafe(1024 * 1024)
    const { signal, abort } = vm.runInNewContext(`
      const listeners = new Set()
      const signal = {
        aborted: false,
        reason: undefined,
        addEventListener(_, listener) { listeners.add(listener) },
        removeEventListener(_, listener) { listeners.delete(listener) }
      }
      const abort = () => {
        signal.aborted = true
        signal.reason = new Error('enough')
        for (const listener of [...listeners]) listener()
      }
      ;({ signal, abort })`)
    const waiting = pool.acquire(10, { signal })
    abort()
    await assert.rejects(waiting, { name: 'AbortError', code: 'ABORT_ERR' })
    await assert.rejects(io.chunks(pool, file, { signal }).next(), { name: 'AbortError' })
    pool.release(held)
  })

  test(
    'may have views, memory and options of its own',
    inEveryMode(async (pool, options) => {
      const context = vm.createContext({ options })
      const made = (/** @type {string} */ code) => vm.runInContext(code, context)
      new BufferPool(made('({ ...options })'))
      const Bytes = made('Uint8Array')
      const leased = [pool.allocUnsafe(100), pool.allocUnsafe(100), pool.allocUnsafe(100)]
      pool.release(new Bytes(leased[0].buffer, 3, 4))
      pool.release(new (made('DataView'))(leased[1].buffer))
      assert.ok(pool.owns(new Bytes(leased[2].buffer)))
      pool.release(leased[2])
      const text = pool.byteBuffer().append(Bytes.from(Buffer.from('by')))
      assert.equal(text.toBuffer().toString(), 'by')
      text.release()
      const pieces = [
        Bytes.of(97, 98),
        Bytes.of(99).buffer,
        new (made('DataView'))(Bytes.of(100).buffer)
      ]
      assert.equal(await textOf(io.chunks(pool, Readable.from(pieces))), 'abcd')
      const body = await io.readBody(pool, Readable.from([Bytes.of(97), Bytes.of(98)]))
      assert.equal(body.buffer.toString(), 'ab')
      body.release()
      const iterable = made(`({
        [Symbol.asyncIterator]: async function* () { yield new Uint8Array([101, 102]) }
      })`)
      assert.equal(await textOf(io.chunks(pool, iterable)), 'ef')
      const handle = vm.runInContext(
        '((text) => JSON.parse(text))',
        context
      )(JSON.stringify(pool.handle))
      assert.equal(BufferPool.attach(handle), pool)
    })
  )
})

/**
 * Returns a URL as another realm, or a package, has it: getters of a class that is not Node's.
 *
 * @param {URL} url
 */
function foreignUrl(url) {
  return vm.runInNewContext(
    `new (class URL {
      #parts
      constructor(parts) { this.#parts = parts }
      get href() { return this.#parts.href }
      get protocol() { return this.#parts.protocol }
      get host() { return this.#parts.host }
      get hostname() { return this.#parts.hostname }
      get pathname() { return this.#parts.pathname }
      get search() { return this.#parts.search }
      get hash() { return this.#parts.hash }
      toString() { return this.href }
    })(parts)`,
    { parts: url }
  )
}

describe('a transfer() of ArrayBuffers that was there before cistern', () => {
  const put = (/** @type {string} */ code) =>
    `Object.defineProperty(ArrayBuffer.prototype, 'transfer', {
      configurable: true, writable: true, value: ${code}
    })`

  const polyfills = {
    copies: 'function transfer(length = this.byteLength) { return this.slice(0, length) }',
    'copies, and detaches by structuredClone': `function transfer(length = this.byteLength) {
      const copy = this.slice(0, length)
      structuredClone(this, { transfer: [this] })
      return copy
    }`,
    'moves by structuredClone': `function transfer(length = this.byteLength) {
      const moved = structuredClone(this, { transfer: [this] })
      return length === moved.byteLength ? moved : moved.slice(0, length)
    }`,
    'throws, as the one of SES on Node 20': `function transfer() {
      throw new TypeError('the platform lacks ArrayBuffer.prototype.transfer')
    }`,
    'returns what it is called on': 'function transfer() { return this }',
    'returns no ArrayBuffer': 'function transfer() { return {} }',
    'is no function': '1'
  }
  for (const [what, code] of Object.entries(polyfills)) {
    test(`and ${what}: stale views are dead all the same`, () => {
      runEveryday({ before: put(code) })
      // This also holds if V8 owns the memory.
      runEveryday({ before: put(code), env: { CISTERN_NO_EXTERNAL: '1' } })
    })
  }

  test('and was deleted: stale views are dead all the same', () => {
    runEveryday({ before: 'delete ArrayBuffer.prototype.transfer' })
  })

  test('and is a wrapper of V8 is as good as that', { skip: !moves }, () => {
    runEveryday({
      before: `
        const { transfer } = ArrayBuffer.prototype
        ${put('function (...args) { return transfer.apply(this, args) }')}`
    })
  })

  test('and is none of V8: what it gives is an ArrayBuffer, can be posted, and marks hold', () => {
    runEveryday({
      before: put(polyfills.copies),
      after: `
        const { BufferPool } = require(${JSON.stringify(root)})
        const assert = require('node:assert')
        const { markAsUntransferable } = require('node:worker_threads')
        const pool = new BufferPool()
        const buffer = pool.alloc(100, 7)
        assert.ok(buffer.buffer instanceof ArrayBuffer)
        assert.equal(Object.getPrototypeOf(buffer.buffer), ArrayBuffer.prototype)
        if (${posts}) {
          const sent = structuredClone(buffer, { transfer: [buffer.buffer] })
          assert.ok(sent.every((byte) => byte === 7))
          // The pool no longer knows memory that is V8's.
          if (${external}) pool.release(sent)
        }
        const marked = pool.allocUnsafe(100)
        markAsUntransferable(marked.buffer)
        try {
          pool.release(marked)
        } catch (error) {
          assert.equal(error.code, 'ERR_CISTERN_UNDETACHABLE')
        }`
    })
  })
})

describe('frozen prototypes', () => {
  const FREEZE = `
    const seen = new Set()
    const freeze = (value) => {
      if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return
      if (seen.has(value)) return
      seen.add(value)
      for (const { value: inner, get, set } of Object.values(Object.getOwnPropertyDescriptors(value))) {
        for (const part of [inner, get, set]) freeze(part)
      }
      freeze(Object.getPrototypeOf(value))
      Object.freeze(value)
    }
    for (const name of [
      'Object', 'Function', 'Array', 'ArrayBuffer', 'DataView', 'Uint8Array', 'Float64Array', 'Error',
      'TypeError', 'RangeError', 'Promise', 'Map', 'Set', 'WeakMap', 'WeakSet', 'WeakRef',
      'FinalizationRegistry', 'Symbol', 'Reflect', 'Number', 'String', 'RegExp', 'Iterator', 'AsyncIterator'
    ]) if (globalThis[name]) freeze(globalThis[name])
    freeze(Object.getPrototypeOf(async function* () {}))`

  test('change nothing, before cistern is loaded and after', () => {
    runEveryday({ before: FREEZE })
    runEveryday({ after: FREEZE })
  })

  test('change nothing where Node freezes them', () => {
    runEveryday({ flags: ['--frozen-intrinsics', '--no-warnings'] })
  })

  test('hide no leak', () => {
    const source = `
      ${FREEZE}
      const { BufferPool } = require(${JSON.stringify(root)})
      const pool = new BufferPool({ leakSampleRate: 1 })
      require('node:diagnostics_channel').subscribe('cistern:leak', ({ stack }) => {
        console.log(stack.includes('leakHere') ? 'leak' : stack)
        process.exit()
      })
      function leakHere() { pool.allocUnsafe(100).fill(1) }
      leakHere()
      setInterval(gc, 1)`
    const { stdout, stderr } = spawnSync(process.execPath, ['--expose-gc', '-e', source], {
      encoding: 'utf8',
      timeout: 120_000
    })
    assert.equal(stdout, 'leak\n', stderr)
  })
})
