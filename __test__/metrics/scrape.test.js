'use strict'

/** `cistern/metrics` as a scraper sees it: over http, and with a Prometheus where there is one. */

const assert = require('node:assert/strict')
const { spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
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
const {
  KIB,
  MIB,
  parse,
  Registry,
  root,
  seriesName,
  seriesOf,
  serving,
  shows
} = require('../support/metrics')

const docs = readFileSync(path.join(root, 'docs', 'metrics.md'), 'utf8')

/** A pool whose `stats()` can differ from its totals. */
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
 * Uses a pool in every way that its totals count.
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
      (detachOnRelease) => new BufferPool({ name: `detach: ${detachOnRelease}`, detachOnRelease })
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

  test('reads the totals once, and only then', async () => {
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

describe('docs/metrics.md', () => {
  /** Returns a used pool with a ceiling, which has every series. */
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
      // `external` is a figure of the runtime, and not of the pool.
      if (figure !== 'external') assert.ok(docs.includes(`\`${figure}\``), figure)
    }
  })
})

describe('Prometheus', () => {
  const [, rules] = /```yaml\n(.*?)```/s.exec(docs)

  /** Returns the reason why a command of Prometheus can't run here. */
  const missing = (command) => {
    const { status, stdout, stderr } = spawnSync(command, ['--version'], { encoding: 'utf8' })
    const is = status === 0 && `${stdout}${stderr}`.includes(`${command}, version`)
    return is ? false : `${command} is not installed, or not on PATH`
  }

  /** Returns a pool in trouble: near its ceiling, with misses only, and leaking. */
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
   * Asserts that a Prometheus gets both pools' values, and raises every alert only for the first.
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
   * Starts a Prometheus that scrapes `target` each second. Returns `undefined`, and skips the test,
   * if it does not get ready.
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
