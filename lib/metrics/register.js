'use strict'

/** A pool's statistics as Prometheus metrics, for prom-client. */

const { checkOptions } = require('../pool/check-options')
const { checkPool } = require('../pool/check-pool')
const { InvalidArgType, InvalidArgValue } = require('../pool/errors')
const { hasMethods } = require('../runtime/has-methods')
const { soon } = require('../runtime/timers')

/**
 * @typedef {import('../..').BufferPool} BufferPool
 * @typedef {import('../..').PoolStats} PoolStats
 * @typedef {import('.').PromClient} PromClient
 * @typedef {import('.').MetricsRegistry} MetricsRegistry
 * @typedef {import('prom-client').Counter | import('prom-client').Gauge} Metric
 * @typedef {[labels: Record<string, string | number>, value: number]} Sample
 */

/** The names and prefixes that Prometheus allows for a metric. */
const NAME = /^([a-zA-Z_:][a-zA-Z0-9_:]*)?$/

/**
 * Every metric, with the samples that a pool has of it. All have the label `pool` too. The samples
 * of one metric must add up, so a figure that is also counted per block size has a second metric
 * for that.
 *
 * @type {{ type: 'Counter' | 'Gauge', name: string, help: string, labels: string[],
 *   samples(stats: PoolStats & { maxBytes?: number }): Sample[] }[]}
 */
const METRICS = [
  {
    type: 'Gauge',
    name: 'memory_bytes',
    help: 'Memory the pool has from the operating system: leased, idle, or set aside.',
    labels: ['state'],
    samples: ({ inUseBytes, idleBytes, quarantinedBytes }) => [
      [{ state: 'in_use' }, inUseBytes],
      [{ state: 'idle' }, idleBytes],
      [{ state: 'quarantined' }, quarantinedBytes]
    ]
  },
  {
    type: 'Gauge',
    name: 'blocks',
    help: 'Blocks that are leased or idle.',
    labels: ['state'],
    samples: blocksOf
  },
  {
    type: 'Gauge',
    name: 'class_blocks',
    help: 'Blocks that are leased or idle, by block size.',
    labels: ['block_size', 'state'],
    samples: (stats) => bySize(stats, blocksOf)
  },
  {
    type: 'Gauge',
    name: 'peak_in_use_bytes',
    help: 'The most block bytes leased at one time.',
    labels: [],
    samples: ({ peakInUseBytes }) => [[{}, peakInUseBytes]]
  },
  {
    type: 'Gauge',
    name: 'overhead_bytes',
    help: 'Native memory that the pool costs besides its blocks.',
    labels: [],
    samples: ({ overheadBytes }) => [[{}, overheadBytes]]
  },
  {
    type: 'Gauge',
    name: 'limit_bytes',
    help: 'The most memory the pool may hold, where it has a ceiling.',
    labels: [],
    samples: ({ maxBytes }) =>
      typeof maxBytes === 'number' && Number.isFinite(maxBytes) ? [[{}, maxBytes]] : []
  },
  {
    type: 'Counter',
    name: 'leases_total',
    help: 'Leases: from idle blocks (hit), from new ones (miss), or served by V8 (unpooled).',
    labels: ['result'],
    samples: (stats) => [...leasesOf(stats), [{ result: 'unpooled' }, stats.unpooledCount]]
  },
  {
    type: 'Counter',
    name: 'class_leases_total',
    help: 'Leases from idle blocks (hit) or new ones (miss), by block size.',
    labels: ['block_size', 'result'],
    samples: (stats) => bySize(stats, leasesOf)
  },
  {
    type: 'Counter',
    name: 'requested_bytes_total',
    help: 'Bytes asked for in leases.',
    labels: [],
    samples: ({ allocBytes }) => [[{}, allocBytes]]
  },
  {
    type: 'Counter',
    name: 'lease_ends_total',
    help: 'Leases ended by a release, or by the garbage collector.',
    labels: ['reason'],
    samples: ({ releaseCount, collectedCount }) => [
      [{ reason: 'released' }, releaseCount],
      [{ reason: 'collected' }, collectedCount]
    ]
  },
  {
    type: 'Counter',
    name: 'waits_total',
    help: 'Leases that waited for memory.',
    labels: [],
    samples: ({ waitCount }) => [[{}, waitCount]]
  },
  {
    type: 'Gauge',
    name: 'waiting',
    help: 'Leases that wait for memory now.',
    labels: [],
    samples: ({ waitingCount }) => [[{}, waitingCount]]
  },
  {
    type: 'Gauge',
    name: 'longest_wait_seconds',
    help: 'For how long the oldest of them has waited.',
    labels: [],
    samples: ({ longestWaitMs }) => [[{}, longestWaitMs / 1000]]
  },
  {
    type: 'Counter',
    name: 'fresh_blocks_total',
    help: 'Blocks got from the operating system.',
    labels: [],
    samples: ({ freshCount }) => [[{}, freshCount]]
  },
  {
    type: 'Counter',
    name: 'fresh_bytes_total',
    help: 'Bytes got from the operating system.',
    labels: [],
    samples: ({ freshBytes }) => [[{}, freshBytes]]
  },
  {
    type: 'Counter',
    name: 'discarded_blocks_total',
    help: 'Blocks that came back and were not kept.',
    labels: [],
    samples: ({ discardCount }) => [[{}, discardCount]]
  },
  {
    type: 'Counter',
    name: 'freed_bytes_total',
    help: 'Bytes given back to the operating system.',
    labels: [],
    samples: ({ freedBytes }) => [[{}, freedBytes]]
  }
]

/**
 * Each registry's exporters, by prefix.
 *
 * @type {WeakMap<MetricsRegistry, Map<string, Exporter>>}
 */
const exporters = new WeakMap()

/**
 * @param {BufferPool} pool
 * @param {PromClient} promClient
 * @param {import('.').RegisterOptions} [options]
 */
function register(pool, promClient, options) {
  checkPool(pool)
  if (!hasMethods(promClient, ['Counter', 'Gauge'])) {
    throw new InvalidArgType('promClient', 'the module prom-client', promClient)
  }
  const { prefix, registry } = completeOptions(options, promClient)
  const { name } = pool.stats()
  return exporterOf(promClient, registry, prefix).add(pool, name)
}

/**
 * Checks the given options, and completes them with the defaults.
 *
 * @param {unknown} given
 * @param {PromClient} promClient
 * @returns {{ prefix: string, registry: MetricsRegistry }}
 */
function completeOptions(given = {}, promClient) {
  checkOptions(given, ['prefix', 'registry'])
  const { prefix = 'cistern_', registry = promClient.register } =
    /** @type {{ prefix?: any, registry?: any }} */ (given)
  if (typeof prefix !== 'string') throw new InvalidArgType('options.prefix', 'a string', prefix)
  if (!NAME.test(prefix)) {
    const reason = 'must be of letters, digits and "_", and not begin with a digit'
    throw new InvalidArgValue('options.prefix', reason, prefix)
  }
  if (!hasMethods(registry, ['getSingleMetric', 'registerMetric', 'removeSingleMetric'])) {
    throw new InvalidArgType('options.registry', "prom-client's Registry", registry)
  }
  return { prefix, registry }
}

/**
 * @param {PromClient} promClient
 * @param {MetricsRegistry} registry
 * @param {string} prefix
 */
function exporterOf(promClient, registry, prefix) {
  const siblings = exporters.get(registry) ?? new Map()
  const known = siblings.get(prefix)
  if (known?.isRegistered()) return known
  const exporter = new Exporter(promClient, registry, prefix)
  exporters.set(registry, siblings.set(prefix, exporter))
  return exporter
}

/** The metrics of one prefix in one registry, and the pools that they show. */
class Exporter {
  #registry
  /** @type {Map<string, Metric>} */
  #metrics = new Map()
  /** @type {Map<string, Source>} */
  #sources = new Map()

  /**
   * @param {PromClient} promClient
   * @param {MetricsRegistry} registry
   * @param {string} prefix
   */
  constructor(promClient, registry, prefix) {
    for (const { type, name, help, labels, samples } of METRICS) {
      const fullName = prefix + name
      if (registry.getSingleMetric(fullName) !== undefined) {
        const reason = `must be another one: the registry has a metric '${fullName}' already`
        throw new InvalidArgValue('options.prefix', reason, prefix)
      }
      const metric = new promClient[type]({
        name: fullName,
        help,
        labelNames: ['pool', ...labels],
        registers: [],
        collect: () => this.#collect(fullName, samples)
      })
      this.#metrics.set(fullName, metric)
    }
    for (const metric of this.#metrics.values()) registry.registerMetric(metric)
    this.#registry = registry
  }

  /** Tells whether the registry still has any of the metrics: its owner may have removed them. */
  isRegistered() {
    for (const name of this.#metrics.keys()) if (this.#has(name)) return true
    return false
  }

  /**
   * Shows a pool from now on. Returns a function that ends that.
   *
   * @param {BufferPool} pool
   * @param {string} name
   */
  add(pool, name) {
    const known = this.#sources.get(name)
    if (known?.pool === pool) return known.unregister
    if (known !== undefined) {
      const reason = 'must have a name of its own, and the registry has another pool of its name'
      throw new InvalidArgValue('pool', reason, name)
    }
    const source = new Source(pool, () => {
      if (this.#sources.get(name) === source) this.#remove(name)
    })
    this.#sources.set(name, source)
    return source.unregister
  }

  /** @param {string} poolName */
  #remove(poolName) {
    this.#sources.delete(poolName)
    if (this.#sources.size > 0) return
    for (const name of this.#metrics.keys()) {
      if (this.#has(name)) this.#registry.removeSingleMetric(name)
    }
  }

  /** @param {string} name */
  #has(name) {
    return this.#registry.getSingleMetric(name) === this.#metrics.get(name)
  }

  /**
   * Gives a metric the values of this moment.
   *
   * @param {string} name
   * @param {(stats: PoolStats) => Sample[]} samples
   */
  #collect(name, samples) {
    const metric = /** @type {Metric} */ (this.#metrics.get(name))
    // Removes the series of pools that are gone.
    metric.reset()
    for (const [pool, source] of this.#sources) {
      for (const [labels, value] of samples(source.stats())) {
        const allLabels = { pool, ...labels }
        if ('set' in metric) metric.set(allLabels, value)
        else metric.inc(allLabels, source.highest([name, ...Object.values(labels)].join(), value))
      }
    }
  }
}

/** A pool as scrapes see it. */
class Source {
  /** @type {PoolStats | undefined} */
  #stats
  /** @type {Map<string, number>} */
  #highest = new Map()

  /**
   * @param {BufferPool} pool
   * @param {() => void} unregister
   */
  constructor(pool, unregister) {
    this.pool = pool
    this.unregister = unregister
  }

  /**
   * Returns the statistics, read once for a scrape: prom-client collects all metrics before the
   * first promise resolves.
   */
  stats() {
    if (this.#stats === undefined) {
      this.#stats = this.pool.stats()
      soon(() => {
        this.#stats = undefined
      })
    }
    return this.#stats
  }

  /**
   * Returns the highest value that a counter's series has had. Some counts are differences, which
   * may decrease for a moment while other threads lease, but a counter must never decrease.
   *
   * @param {string} series
   * @param {number} value its latest
   */
  highest(series, value) {
    const highest = Math.max(value, this.#highest.get(series) ?? 0)
    this.#highest.set(series, highest)
    return highest
  }
}

/**
 * @param {{ inUseCount: number, idleCount: number }} figures
 * @returns {Sample[]}
 */
function blocksOf({ inUseCount, idleCount }) {
  return [
    [{ state: 'in_use' }, inUseCount],
    [{ state: 'idle' }, idleCount]
  ]
}

/**
 * @param {{ hitCount: number, missCount: number }} figures
 * @returns {Sample[]}
 */
function leasesOf({ hitCount, missCount }) {
  return [
    [{ result: 'hit' }, hitCount],
    [{ result: 'miss' }, missCount]
  ]
}

/**
 * Returns the samples of each block size that has been used.
 *
 * @param {PoolStats} stats
 * @param {(figures: PoolStats['classes'][number]) => Sample[]} samplesOf
 * @returns {Sample[]}
 */
function bySize({ classes }, samplesOf) {
  return classes.flatMap((figures) =>
    samplesOf(figures).map(
      /** @returns {Sample} */
      ([labels, value]) => [{ block_size: figures.blockSize, ...labels }, value]
    )
  )
}

module.exports = { register }
