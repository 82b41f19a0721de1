'use strict'

/** `cistern/metrics`, as a scraper sees it: over http, and with a Prometheus where there is one. */

const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const os = require('node:os')
const path = require('node:path')
const { describe, test } = require('node:test')
const { setTimeout: sleep } = require('node:timers/promises')
const { isDeepStrictEqual } = require('node:util')
const { Worker } = require('node:worker_threads')
const promClient = require('prom-client')
const { BufferPool, shared } = require('cistern')
const { register } = require('cistern/metrics')
const { PATIENCE, collectUntil, settle } = require('../support/helpers')

const { Registry } = promClient

const KIB = 1024
const MIB = 1024 * KIB

const root = path.join(__dirname, '..', '..')
const docs = readFileSync(path.join(root, 'docs', 'metrics.md'), 'utf8')

/** A pool that says more of itself, or something else, than its books do. */
class Saying extends BufferPool {
  /** @type {object} */
  says = {}
  calls = 0

  stats() {
    this.calls++
    return { ...super.stats(), ...this.says }
  }
}

/**
 * The series that a pool's stats stand for, by their text.
 *
 * @param {import('../..').PoolStats} stats
 */
function seriesOf(stats, prefix = 'cistern_') {
  const series = new Map()
  const put = (name, labels, value) => {
    // No series is ever -0.
    series.set(seriesName(prefix + name, { pool: stats.name, ...labels }), value + 0)
  }
  put('memory_bytes', { state: 'in_use' }, stats.inUseBytes)
  put('memory_bytes', { state: 'idle' }, stats.idleBytes)
  put('memory_bytes', { state: 'quarantined' }, stats.quarantinedBytes)
  put('overhead_bytes', {}, stats.overheadBytes)
  put('blocks', { state: 'in_use' }, stats.inUseCount)
  put('blocks', { state: 'idle' }, stats.idleCount)
  put('peak_in_use_bytes', {}, stats.peakInUseBytes)
  if (Number.isFinite(stats.maxBytes)) put('limit_bytes', {}, stats.maxBytes)
  put('leases_total', { result: 'hit' }, stats.hitCount)
  put('leases_total', { result: 'miss' }, stats.missCount)
  put('leases_total', { result: 'unpooled' }, stats.unpooledCount)
  put('requested_bytes_total', {}, stats.allocBytes)
  put('lease_ends_total', { reason: 'released' }, stats.releaseCount)
  put('lease_ends_total', { reason: 'collected' }, stats.collectedCount)
  put('waits_total', {}, stats.waitCount)
  put('waiting', {}, stats.waitingCount)
  put('longest_wait_seconds', {}, stats.longestWaitMs / 1000)
  put('fresh_blocks_total', {}, stats.freshCount)
  put('fresh_bytes_total', {}, stats.freshBytes)
  put('discarded_blocks_total', {}, stats.discardCount)
  put('freed_bytes_total', {}, stats.freedBytes)
  for (const { blockSize, inUseCount, idleCount, hitCount, missCount } of stats.classes) {
    const block_size = String(blockSize)
    put('class_blocks', { block_size, state: 'in_use' }, inUseCount)
    put('class_blocks', { block_size, state: 'idle' }, idleCount)
    put('class_leases_total', { block_size, result: 'hit' }, hitCount)
    put('class_leases_total', { block_size, result: 'miss' }, missCount)
  }
  return series
}

/**
 * @param {string} name
 * @param {Record<string, string>} labels
 */
function seriesName(name, labels) {
  return `${name}${JSON.stringify(Object.entries(labels).sort())}`
}

/**
 * A scraped text, every line of it: the series with their values, and what is said of the metrics.
 *
 * @param {string} text
 */
function parse(text) {
  const series = new Map()
  const types = new Map()
  const labels = new Map()
  for (const line of text.split('\n')) {
    if (line === '') continue
    const [, hash, name, rest] = /^# (HELP|TYPE) (\w+) (.+)$/.exec(line) ?? []
    if (hash === 'HELP') continue
    if (hash === 'TYPE') {
      assert.ok(!types.has(name), `${name} is there twice`)
      types.set(name, rest)
      continue
    }
    const sample = /^(\w+)\{((?:\w+="(?:[^"\\]|\\.)*",?)+)\} (\S+)$/.exec(line)
    assert.ok(sample, `not a sample: ${line}`)
    const [, metric, pairs, value] = sample
    const given = {}
    for (const [, label, quoted] of pairs.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      given[label] = quoted.replace(/\\(.)/g, (_, char) => (char === 'n' ? '\n' : char))
    }
    const key = seriesName(metric, given)
    assert.ok(types.has(metric), `no type before ${line}`)
    assert.ok(!series.has(key), `there twice: ${line}`)
    series.set(key, Number(value))
    labels.set(metric, Object.keys(given).sort().join())
  }
  return { series, types, labels }
}

/**
 * Serves a registry under `/metrics` until `use` is done.
 *
 * @param {import('prom-client').Registry} registry
 * @param {(scrape: () => Promise<ReturnType<typeof parse>>, address: string) => unknown} use
 */
async function serving(registry, use) {
  const server = http.createServer(async (req, res) => {
    try {
      if (req.url !== '/metrics') return res.writeHead(404).end()
      const text = await registry.metrics()
      res.setHeader('content-type', registry.contentType)
      res.end(text)
    } catch (error) {
      res.writeHead(500).end(String(error))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = `127.0.0.1:${server.address().port}`
  try {
    await use(async () => {
      const response = await fetch(`http://${address}/metrics`)
      const text = await response.text()
      assert.equal(response.status, 200, text)
      assert.equal(response.headers.get('content-type'), registry.contentType)
      return parse(text)
    }, address)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

/**
 * Asserts that exactly the series of these pools are scraped, with their values.
 *
 * @param {() => Promise<ReturnType<typeof parse>>} scrape
 * @param {BufferPool[]} pools
 */
async function shows(scrape, ...pools) {
  await settle()
  const books = () => pools.map((pool) => pool.stats())
  let before = books()
  let { series } = await scrape()
  // Finalizers and timers may have come in between.
  for (let i = 0; i < 10 && !isDeepStrictEqual(books(), before); i++) {
    before = books()
    series = (await scrape()).series
  }
  const expected = before.flatMap((stats) => [...seriesOf(stats)])
  assert.deepEqual([...series].sort(), expected.sort())
  return series
}

/**
 * Uses a pool in every way that its books know.
 *
 * @param {BufferPool} pool
 */
async function useAll(pool) {
  const kept = [100, 5000, 5000, 70 * KIB].map((size) => pool.allocUnsafe(size))
  pool.release(kept[0])
  pool.release(kept[1])
  await settle()
  for (let i = 0; i < 10; i++) {
    pool.release(pool.allocUnsafe(5000))
    await settle()
  }
  pool.release(pool.allocUnsafe(64 * MIB))
  const { collectedCount } = pool.stats()
  for (let i = 0; i < 3; i++) pool.allocUnsafe(300 * KIB)
  await collectUntil(() => pool.stats().collectedCount === collectedCount + 3, 'three are back')
  pool.trim(300 * KIB)
  await settle()
  return kept.slice(2)
}

describe('a scrape', () => {
  test('has exactly what stats() has', async () => {
    const registry = new Registry()
    const pools = [true, false].map(
      (detachOnRelease) => new BufferPool({ name: `detaching ${detachOnRelease}`, detachOnRelease })
    )
    for (const pool of pools) register(pool, promClient, { registry })
    await serving(registry, async (scrape) => {
      await shows(scrape, ...pools)
      const leased = []
      for (const pool of pools) leased.push(...(await useAll(pool)))
      for (const pool of pools) {
        const { hitCount, missCount, unpooledCount, collectedCount, freedBytes } = pool.stats()
        const figures = { hitCount, missCount, unpooledCount, collectedCount, freedBytes }
        for (const [name, value] of Object.entries(figures)) assert.ok(value > 0, name)
      }
      const series = await shows(scrape, ...pools)
      for (const pool of pools) {
        const { name, allocCount, inUseCount } = pool.stats()
        const sum = (metric, more = '') => {
          const start = `cistern_${metric}`
          const parts = [...series].filter(
            ([key]) => key.startsWith(start) && key.includes(`"${name}"`) && key.includes(more)
          )
          return parts.reduce((total, [, value]) => total + value, 0)
        }
        assert.equal(sum('leases_total'), allocCount)
        assert.equal(sum('class_blocks', '"in_use"'), inUseCount)
        assert.equal(leased.length, 4)
      }
    })
  })

  test('reads the books once, and only then', async () => {
    const registry = new Registry()
    const pools = ['one', 'other'].map((name) => new Saying({ name }))
    for (const pool of pools) register(pool, promClient, { registry })
    const calls = () => pools.map((pool) => pool.calls)
    const [before] = calls()
    await serving(registry, async (scrape) => {
      for (let i = 1; i <= 5; i++) {
        await scrape()
        assert.deepEqual(calls(), [before + i, before + i])
      }
      await registry.getMetricsAsJSON()
      assert.deepEqual(calls(), [before + 6, before + 6])
      await settle()
      assert.deepEqual(calls(), [before + 6, before + 6])
    })
  })

  test('has the moment of each scrape, of one metric alone too', async () => {
    const registry = new Registry()
    const pool = new BufferPool()
    register(pool, promClient, { registry })
    for (let i = 1; i <= 3; i++) {
      pool.allocUnsafe(10)
      const text = await registry.getSingleMetricAsString('cistern_requested_bytes_total')
      assert.match(text, new RegExp(` ${10 * i}$`))
    }
  })

  test('shows the ceiling where there is one', async () => {
    const registry = new Registry()
    const pool = new Saying()
    register(pool, promClient, { registry })
    await serving(registry, async (scrape) => {
      for (const maxBytes of [undefined, MIB, 0, Infinity, NaN, null, '1']) {
        pool.says = { maxBytes, external: true }
        const has = maxBytes === MIB || maxBytes === 0
        const series = await shows(scrape, pool)
        const limit = series.get(seriesName('cistern_limit_bytes', { pool: 'pool' }))
        assert.equal(limit, has ? maxBytes : undefined)
      }
    })
  })

  test('keeps names as they are, whatever is in them', async () => {
    const registry = new Registry()
    const names = ['', 'a "b"', 'back\\slash\\n', 'two\nlines', 'Zisterne ü 水', 'a,state:idle']
    const pools = names.map((name) => new BufferPool({ name }))
    for (const pool of pools) register(pool, promClient, { registry })
    await serving(registry, (scrape) => shows(scrape, ...pools))
  })

  test('can be of OpenMetrics', async () => {
    const registry = new Registry(Registry.OPENMETRICS_CONTENT_TYPE)
    const pool = new BufferPool()
    const unregister = register(pool, promClient, { registry })
    pool.release(pool.allocUnsafe(10))
    for (let i = 0; i < 2; i++) {
      const text = await registry.metrics()
      assert.ok(text.endsWith('\n# EOF\n'))
      assert.match(text, /^# TYPE cistern_leases counter$/m)
      assert.match(text, /^cistern_leases_total\{pool="pool",result="miss"\} 1$/m)
      assert.equal(register(pool, promClient, { registry }), unregister)
    }
    unregister()
    assert.deepEqual(registry.getMetricsAsArray(), [])
  })
})

describe('counters', () => {
  test('only rise while threads lease, and gauges stay gauges', async () => {
    const registry = new Registry()
    const pool = new BufferPool({ name: 'own' })
    register(shared, promClient, { registry })
    register(pool, promClient, { registry })
    const work = (index) =>
      `const { shared } = require('cistern')
       let kept = []
       setInterval(() => {
         for (let i = 0; i < 2000; i++) {
           kept.push(shared.allocUnsafe(1 + (i * 977) % 50_000))
           if (kept.length > 50) shared.release(kept.shift())
         }
         kept.length = ${index} % 2 ? 0 : kept.length
         if (${index} === 2) shared.trim()
       })`
    const workers = Array.from(
      { length: 3 },
      (_, i) => new Worker(work(i), { eval: true, stdout: false })
    )
    try {
      await Promise.all(workers.map((worker) => once(worker, 'online')))
      await serving(registry, async (scrape) => {
        let last = new Map()
        for (let i = 0; i < 60; i++) {
          const leased = Array.from({ length: 20 }, () => pool.allocUnsafe(1 + i * 1000))
          const { series, types } = await scrape()
          for (const [key, value] of series) {
            const type = types.get(/^\w+/.exec(key)[0])
            assert.equal(type, /^\w+_total\[/.test(key) ? 'counter' : 'gauge')
            if (type === 'counter') assert.ok(value >= (last.get(key) ?? 0), key)
          }
          for (const key of last.keys()) assert.ok(series.has(key), `${key} has gone`)
          last = series
          for (const buffer of leased) pool.release(buffer)
          if (i === 40) await workers[0].terminate()
        }
      })
    } finally {
      await Promise.all(workers.map((worker) => worker.terminate()))
    }
    assert.ok(shared.stats().allocCount > 0)
  })

  test('stay where they are when a count steps back', async () => {
    const registry = new Registry()
    const pool = new Saying()
    register(pool, promClient, { registry })
    const key = seriesName('cistern_lease_ends_total', { pool: 'pool', reason: 'released' })
    await serving(registry, async (scrape) => {
      for (const [releaseCount, shown] of [
        [-1, 0],
        [5, 5],
        [4, 5],
        [6, 6]
      ]) {
        pool.says = { releaseCount }
        assert.equal((await scrape()).series.get(key), shown)
      }
      registry.resetMetrics()
      assert.equal((await scrape()).series.get(key), 6)
    })
  })
})

describe('registering', () => {
  test('and unregistering, one pool after the other', async () => {
    const registry = new Registry()
    const [a, b] = ['a', 'b'].map((name) => new BufferPool({ name }))
    a.release(a.allocUnsafe(100))
    await serving(registry, async (scrape) => {
      const removeA = register(a, promClient, { registry })
      const removeB = register(b, promClient, { registry })
      await shows(scrape, a, b)
      assert.equal(removeA(), undefined)
      await shows(scrape, b)
      removeA()
      const again = register(a, promClient, { registry })
      removeA()
      await shows(scrape, a, b)
      removeB()
      await shows(scrape, a)
      again()
      assert.deepEqual(registry.getMetricsAsArray(), [])
      await shows(scrape)
      register(b, promClient, { registry })
      await shows(scrape, b)
    })
  })

  test('twice is harmless', async () => {
    const registry = new Registry()
    const pool = new BufferPool()
    const unregister = register(pool, promClient, { registry })
    assert.equal(register(pool, promClient, { registry }), unregister)
    assert.equal(register(pool, { ...promClient }, { registry, prefix: undefined }), unregister)
    await serving(registry, async (scrape) => {
      await shows(scrape, pool)
      unregister()
      await shows(scrape)
    })
  })

  test('two pools of one name is an error, and changes nothing', async () => {
    const registry = new Registry()
    const first = new BufferPool({ name: 'twin' })
    const second = new BufferPool({ name: 'twin' })
    const unregister = register(first, promClient, { registry })
    assert.throws(() => register(second, promClient, { registry }), {
      name: 'TypeError',
      code: 'ERR_INVALID_ARG_VALUE',
      message: /^The argument 'pool' must have a name of its own.* Received 'twin'$/
    })
    await serving(registry, async (scrape) => {
      await shows(scrape, first)
      unregister()
      register(second, promClient, { registry })
      await shows(scrape, second)
    })
  })

  test('one pool in several registries, and under several prefixes', async () => {
    const registries = [new Registry(), new Registry()]
    const pool = new BufferPool()
    const removers = registries.map((registry) => register(pool, promClient, { registry }))
    const removeApp = register(pool, promClient, { registry: registries[0], prefix: 'app_' })
    const scraped = async () => {
      const texts = await Promise.all(registries.map((registry) => registry.metrics()))
      return texts.map((text) => [...parse(text).series].sort())
    }
    const [plain, app] = ['cistern_', 'app_'].map((prefix) => [...seriesOf(pool.stats(), prefix)])
    assert.deepEqual(await scraped(), [[...plain, ...app].sort(), plain.sort()])
    removers[0]()
    assert.deepEqual(await scraped(), [app.sort(), plain])
    removers[1]()
    removeApp()
    assert.deepEqual(await scraped(), [[], []])
  })

  test("takes prom-client's own registry where none is given", async () => {
    const pool = new BufferPool()
    const unregister = register(pool, promClient)
    try {
      await serving(promClient.register, (scrape) => shows(scrape, pool))
    } finally {
      unregister()
    }
    assert.deepEqual(promClient.register.getMetricsAsArray(), [])
  })

  test('takes any prefix that a name may begin with', async () => {
    for (const prefix of ['', 'x', '_', 'My:app_', 'p9_']) {
      const registry = new Registry()
      const pool = new BufferPool()
      register(pool, promClient, { registry, prefix })
      const { series } = parse((await registry.metrics()).replaceAll(':', '_'))
      const expected = seriesOf(pool.stats(), prefix.replaceAll(':', '_'))
      assert.deepEqual([...series].sort(), [...expected].sort())
    }
  })

  test('goes on after the registry was cleared', async () => {
    const registry = new Registry()
    const pool = new BufferPool()
    const before = register(pool, promClient, { registry })
    registry.clear()
    await serving(registry, async (scrape) => {
      await shows(scrape)
      const after = register(pool, promClient, { registry })
      await shows(scrape, pool)
      before()
      await shows(scrape, pool)
      after()
      await shows(scrape)
    })
  })

  test('leaves a metric removed that its user has removed', async () => {
    const registry = new Registry()
    const pools = ['a', 'b'].map((name) => new BufferPool({ name }))
    const removers = [register(pools[0], promClient, { registry })]
    registry.removeSingleMetric('cistern_class_blocks')
    removers.push(register(pools[1], promClient, { registry }))
    for (const pool of pools) pool.release(pool.allocUnsafe(10))
    await serving(registry, async (scrape) => {
      const { series, types } = await scrape()
      assert.ok(!types.has('cistern_class_blocks'))
      const expected = pools.flatMap((pool) => [...seriesOf(pool.stats())])
      const rest = expected.filter(([key]) => !key.startsWith('cistern_class_blocks'))
      assert.deepEqual([...series].sort(), rest.sort())
    })
    // In its place there may be one of the user's own.
    const name = 'cistern_class_blocks'
    const own = new promClient.Gauge({ name, help: 'Mine.', registers: [registry] })
    for (const remove of removers) remove()
    assert.deepEqual(registry.getMetricsAsArray(), [own])
  })

  test('beside another metric of a name is an error, and adds nothing', async () => {
    const registry = new Registry()
    const help = 'Another.'
    new promClient.Counter({ name: 'cistern_freed_bytes_total', help, registers: [registry] })
    const pool = new BufferPool()
    assert.throws(() => register(pool, promClient, { registry }), {
      code: 'ERR_INVALID_ARG_VALUE',
      message:
        "The property 'options.prefix' must be another one: the registry has a metric " +
        "'cistern_freed_bytes_total' already. Received 'cistern_'"
    })
    assert.equal(registry.getMetricsAsArray().length, 1)
    register(pool, promClient, { registry, prefix: 'pool_' })()
    assert.equal(registry.getMetricsAsArray().length, 1)
  })

  test('a closed pool shows how it ended', async () => {
    const registry = new Registry()
    const pool = new BufferPool()
    register(pool, promClient, { registry })
    pool.release(pool.allocUnsafe(MIB))
    pool.close()
    await serving(registry, async (scrape) => {
      const series = await shows(scrape, pool)
      assert.equal(series.get(seriesName('cistern_freed_bytes_total', { pool: 'pool' })), MIB)
    })
  })

  test('lets a pool go that was unregistered', async () => {
    const registry = new Registry()
    register(new BufferPool({ name: 'stays' }), promClient, { registry })
    // No WeakRef: what it has shown, a collection in the same turn does not take.
    let isGone = false
    const finalizers = new FinalizationRegistry(() => {
      isGone = true
    })
    ;(() => {
      const pool = new BufferPool({ name: 'goes' })
      finalizers.register(pool)
      register(pool, promClient, { registry })()
    })()
    await registry.metrics()
    await collectUntil(() => isGone, 'the pool is collected')
  })
})

describe('wrong arguments', () => {
  const pool = new BufferPool()
  const TYPE = 'ERR_INVALID_ARG_TYPE'
  const VALUE = 'ERR_INVALID_ARG_VALUE'

  /**
   * @param {string} code
   * @param {string} start of the message
   * @param {string} received
   * @param {(registry: import('prom-client').Registry) => unknown} call
   */
  const refuses = (code, start, received, call) => {
    test(`${start}: ${received}`, () => {
      const registry = new Registry()
      assert.throws(
        () => call(registry),
        (error) => {
          assert.ok(error instanceof TypeError)
          assert.equal(error.code, code)
          assert.ok(error.message.startsWith(start), error.message)
          assert.ok(error.message.endsWith(`. Received ${received}`), error.message)
          return true
        }
      )
      assert.deepEqual(registry.getMetricsAsArray(), [])
      assert.deepEqual(promClient.register.getMetricsAsArray(), [])
    })
  }

  const notPool = 'The "pool" argument must be an instance of BufferPool'
  refuses(TYPE, notPool, 'undefined', () => register())
  refuses(TYPE, notPool, 'null', () => register(null, promClient))
  refuses(TYPE, notPool, "'pool'", () => register('pool', promClient))
  refuses(TYPE, notPool, '{ name: 1 }', () => register({ name: 1 }, promClient))
  refuses(TYPE, notPool, 'function BufferPool', () => register(BufferPool, promClient))

  const notClient = 'The "promClient" argument must be the module prom-client'
  refuses(TYPE, notClient, 'undefined', () => register(pool))
  refuses(TYPE, notClient, 'null', () => register(pool, null))
  refuses(TYPE, notClient, "'prom-client'", () => register(pool, 'prom-client'))
  refuses(TYPE, notClient, '{ Counter: 1 }', () => register(pool, { Counter: 1 }))

  const notOptions = 'The "options" argument must be an object'
  for (const [options, received] of [
    [null, 'null'],
    ['app_', "'app_'"],
    [[], '[]']
  ]) {
    refuses(TYPE, notOptions, received, () => register(pool, promClient, options))
  }
  refuses(VALUE, "The property 'options.labels' is no option", '{}', (registry) =>
    register(pool, promClient, { registry, labels: {} })
  )

  for (const [prefix, received] of [
    [5, '5'],
    [null, 'null']
  ]) {
    refuses(TYPE, 'The "options.prefix" property must be a string', received, (registry) =>
      register(pool, promClient, { registry, prefix })
    )
  }
  for (const prefix of ['9', 'a-', 'a b', 'ü_', 'a{', 'a\n', '\n']) {
    const received = `'${prefix.replace('\n', '\\n')}'`
    refuses(VALUE, "The property 'options.prefix' must be of letters", received, (registry) =>
      register(pool, promClient, { registry, prefix })
    )
  }

  const notRegistry = `The "options.registry" property must be prom-client's Registry`
  for (const [registry, received] of [
    [null, 'null'],
    [5, '5'],
    [new Map(), 'Map(0) {}']
  ]) {
    refuses(TYPE, notRegistry, received, () => register(pool, promClient, { registry }))
  }
  refuses(TYPE, notRegistry, '1', () => register(pool, { ...promClient, register: 1 }))
})

describe('the module', () => {
  const run = (args) => spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' })

  test('is the same for ES modules', async () => {
    const esm = await import('cistern/metrics')
    assert.equal(esm.register, register)
    assert.equal(esm.default, require('cistern/metrics'))
    assert.deepEqual(Object.keys(require('cistern/metrics')), ['register'])
  })

  test("takes prom-client as ES modules see it, and cistern's imports", () => {
    for (const what of ['promClient', '* as promClient']) {
      const { stdout, stderr } = run([
        '--input-type=module',
        '-e',
        `import ${what} from 'prom-client'
         import { BufferPool } from 'cistern'
         import { register } from 'cistern/metrics'
         register(new BufferPool({ name: 'esm' }), promClient)
         console.log(await promClient.register.metrics())`
      ])
      assert.match(stdout, /^cistern_leases_total\{pool="esm",result="hit"\} 0$/m, stderr)
    }
  })

  test('loads no prom-client', () => {
    const { status, stderr } = run([
      '-e',
      `require('cistern/metrics')
       const loaded = Object.keys(require.cache).filter((file) => file.includes('prom-client'))
       if (loaded.length > 0) throw new Error(loaded.join())`
    ])
    assert.equal(status, 0, stderr)
  })

  test('needs no prom-client to be installed', () => {
    const {
      devDependencies,
      peerDependencies,
      peerDependenciesMeta
    } = require('../../package.json')
    assert.ok('prom-client' in devDependencies)
    assert.ok('prom-client' in peerDependencies)
    assert.deepEqual(peerDependenciesMeta, { 'prom-client': { optional: true } })
    for (const types of ['index.d.ts', 'index.d.mts']) {
      assert.ok(!readFileSync(path.join(root, types), 'utf8').includes('prom-client'))
    }
  })
})

describe('docs/metrics.md', () => {
  /** A used pool with a ceiling: it has every series. */
  const complete = async () => {
    const registry = new Registry()
    const pool = new Saying()
    pool.says = { maxBytes: 64 * MIB }
    register(pool, promClient, { registry })
    pool.release(pool.allocUnsafe(1000))
    return parse(await registry.metrics())
  }

  test('has the table of what is exported', async () => {
    const rows = docs.matchAll(/^\| `(cistern_\w+)` \| (\w+) \| (.*?) ?\| (.+) \|$/gm)
    const table = [...rows].map(([, name, type, labels]) => {
      const kinds = (labels === '' ? [] : labels.split('; ')).map((label) => {
        const [, key, ...values] = label.split('`').filter((_, i) => i === 0 || i % 2 === 1)
        return [key, values.sort()]
      })
      return [name, type, Object.fromEntries([['pool', []], ...kinds])]
    })
    const { series, types } = await complete()
    const exported = [...types].map(([name, type]) => {
      const labels = {}
      for (const key of series.keys()) {
        if (!key.startsWith(`${name}[`)) continue
        for (const [label, value] of JSON.parse(key.slice(name.length))) {
          labels[label] ??= new Set()
          labels[label].add(value)
        }
      }
      const kinds = Object.entries(labels).map(([label, values]) => {
        return [label, ['pool', 'block_size'].includes(label) ? [] : [...values].sort()]
      })
      return [name, type, Object.fromEntries(kinds)]
    })
    assert.ok(table.length >= 14)
    assert.deepEqual(table.sort(), exported.sort())
  })

  test('names no series that there is not', async () => {
    const { types } = await complete()
    for (const [name] of docs.matchAll(/cistern_\w+/g)) {
      assert.ok(name === 'cistern_' || types.has(name), name)
    }
  })

  test('knows every figure of stats()', () => {
    const { name: _name, classes: _classes, ...figures } = new BufferPool().stats()
    for (const figure of Object.keys(figures)) {
      // Not of the pool but of the runtime.
      if (figure !== 'external') assert.ok(docs.includes(`\`${figure}\``), figure)
    }
  })
})

describe('Prometheus', () => {
  const [, rules] = /```yaml\n(.*?)```/s.exec(docs)

  /** Why a command of Prometheus's can't be used here. */
  const missing = (command) => {
    const { status, stdout, stderr } = spawnSync(command, ['--version'], { encoding: 'utf8' })
    const is = status === 0 && `${stdout}${stderr}`.includes(`${command}, version`)
    return is ? false : `${command} is not installed, or not on PATH`
  }

  /** A pool in all that goes wrong: near its ceiling, with misses only, and leaking. */
  const troubled = () => {
    const pool = new Saying({ name: 'troubled' })
    pool.says = { maxBytes: 100 * KIB }
    return { pool, held: pool.allocUnsafe(96 * KIB) }
  }

  test('has no complaint about the names', { skip: missing('promtool') }, async () => {
    const registry = new Registry()
    const { pool } = troubled()
    register(pool, promClient, { registry })
    const input = await registry.metrics()
    assert.ok(input.includes('cistern_class_leases_total'))
    const options = { input, encoding: /** @type {const} */ ('utf8') }
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], options)
    assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: '', stderr: '' })
  })

  test('scrapes, and raises the alerts', { skip: missing('prometheus') }, async (context) => {
    const registry = new Registry()
    const { pool, held } = troubled()
    const sound = new BufferPool({ name: 'sound', detachOnRelease: false })
    register(pool, promClient, { registry })
    register(sound, promClient, { registry })
    await serving(registry, async (_scrape, address) => {
      const prometheus = await startPrometheus(context, address, rules)
      if (prometheus === undefined) return
      try {
        await raises(prometheus, pool, sound)
      } finally {
        await prometheus.stop()
      }
      assert.ok(pool.owns(held))
    })
  })

  /**
   * Asserts that a Prometheus gets both pools' values, and raises every alert for the first alone.
   *
   * @param {NonNullable<Awaited<ReturnType<typeof startPrometheus>>>} prometheus
   * @param {BufferPool} pool
   * @param {BufferPool} sound
   */
  async function raises({ query, alerts }, pool, sound) {
    const eventually = async (what, condition) => {
      const deadline = Date.now() + PATIENCE
      while (!(await condition())) {
        assert.ok(Date.now() < deadline, `Prometheus does not get ${what}`)
        await sleep(250)
      }
    }
    const work = async () => {
      const buffers = Array.from({ length: 2000 }, () => pool.allocUnsafe(64))
      for (const buffer of buffers) pool.release(buffer)
      for (let i = 0; i < 2000; i++) sound.release(sound.allocUnsafe(64))
      const { collectedCount } = pool.stats()
      pool.allocUnsafe(1000)
      await collectUntil(() => pool.stats().collectedCount > collectedCount, 'it is back')
      pool.trim()
      await settle()
    }
    const agrees = async () => {
      const expected = new Map([...seriesOf(pool.stats()), ...seriesOf(sound.stats())])
      const results = await query('{__name__=~"cistern_.+"}')
      const found = results.map(({ metric, value }) => {
        const { __name__, job: _job, instance: _instance, ...labels } = metric
        return [seriesName(__name__, labels), Number(value[1])]
      })
      return isDeepStrictEqual(found.sort(), [...expected].sort())
    }

    await eventually('the first values', agrees)
    await work()
    await eventually('the values after some work', agrees)
    const rules = await alerts()
    assert.equal(rules.length, 3)
    for (const { name, query: expression } of rules) {
      await eventually(name, async () => {
        await work()
        const pools = (await query(expression)).map(({ metric }) => metric.pool)
        assert.ok(!pools.includes('sound'), `${name} for a pool that is well`)
        return pools.includes('troubled')
      })
    }
  }

  /**
   * Starts a Prometheus that scrapes `target` each second. `undefined`, with the test skipped,
   * where it does not get ready.
   *
   * @param {import('node:test').TestContext} context
   * @param {string} target
   * @param {string} rules
   */
  async function startPrometheus(context, target, rules) {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'cistern-prometheus-'))
    const write = (name, text) => {
      writeFileSync(path.join(folder, name), text)
      return path.join(folder, name)
    }
    write('rules.yml', rules)
    const config = {
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: ['rules.yml'],
      scrape_configs: [{ job_name: 'cistern', static_configs: [{ targets: [target] }] }]
    }
    // JSON is YAML.
    const file = write('prometheus.yml', JSON.stringify(config))
    const address = `127.0.0.1:${await freePort()}`
    const child = spawn(
      'prometheus',
      [
        `--config.file=${file}`,
        `--storage.tsdb.path=${path.join(folder, 'data')}`,
        `--web.listen-address=${address}`,
        '--log.level=warn'
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] }
    )
    let log = ''
    child.stderr.setEncoding('utf8').on('data', (text) => {
      log += text
    })
    const exited = once(child, 'exit')
    const kill = () => child.kill('SIGKILL')
    process.once('exit', kill)
    const stop = async () => {
      kill()
      await exited
      process.off('exit', kill)
      rmSync(folder, { recursive: true, force: true })
    }

    const get = async (where) => {
      const response = await fetch(`http://${address}${where}`)
      const { status, data, error } = /** @type {any} */ (await response.json())
      assert.equal(status, 'success', error)
      return data
    }
    const isReady = async () => {
      const response = await fetch(`http://${address}/-/ready`).catch(() => undefined)
      await response?.arrayBuffer()
      return response?.status === 200
    }
    for (const deadline = Date.now() + PATIENCE; !(await isReady()); await sleep(100)) {
      if (child.exitCode === null && Date.now() < deadline) continue
      const state = child.exitCode === null ? 'is not ready in a minute' : 'ended at once'
      await stop()
      context.skip(`prometheus ${state}. ${log.trim().split('\n').at(-1)}`.trim())
      return undefined
    }
    return {
      stop,
      /** @param {string} expression */
      query: async (expression) =>
        (await get(`/api/v1/query?query=${encodeURIComponent(expression)}`)).result,
      alerts: async () => (await get('/api/v1/rules?type=alert')).groups[0].rules
    }
  }

  async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address()
    server.close()
    await once(server, 'close')
    return port
  }
})
