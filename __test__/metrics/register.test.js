'use strict'

/** `register`: registries, prefixes, wrong arguments, and what loading the module costs. */

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const { readFileSync } = require('node:fs')
const path = require('node:path')
const { describe, test } = require('node:test')
const promClient = require('prom-client')
const { BufferPool } = require('cistern')
const { register } = require('cistern/metrics')
const { collectUntil } = require('../support/helpers')
const {
  MIB,
  parse,
  Registry,
  root,
  seriesName,
  seriesOf,
  serving,
  shows
} = require('../support/metrics')

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
    // The user may have put an own metric in its place.
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
    // This uses no WeakRef, whose target would survive a collection in the same turn.
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
