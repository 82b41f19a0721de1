import type * as promClient from 'prom-client'
import type { BufferPool } from '../..'

/**
 * Shows a pool's statistics in a registry of prom-client, under the label `pool` with the pool's
 * name. It reads them once per scrape, and never in between.
 *
 * Several pools can be in one registry, each with a name of its own. Registering a pool a second
 * time changes nothing, and returns the same function. The registry keeps the pool alive until it
 * is unregistered; closing the pool does not unregister it.
 *
 * @returns unregisters the pool: its series disappear, and with the last pool the metrics. Calling
 *   it again does nothing.
 * @throws {TypeError} `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE`: the registry has another
 *   pool of the same name, or other metrics of these names, or an option is wrong
 */
export function register(
  pool: BufferPool,
  promClient: PromClient,
  options?: RegisterOptions
): () => void

export interface RegisterOptions {
  /** The prefix of each metric's name. Default: `'cistern_'`. */
  prefix?: string | undefined
  /** Default: prom-client's own, `promClient.register`. */
  registry?: MetricsRegistry | undefined
}

/** The module prom-client: what `require` gives, or `import`, as default or as namespace. */
export type PromClient = Pick<typeof promClient, 'Counter' | 'Gauge' | 'register'>

/** A Registry of prom-client, whatever it writes, Prometheus's format or OpenMetrics. */
export type MetricsRegistry = Pick<
  promClient.Registry,
  'getSingleMetric' | 'registerMetric' | 'removeSingleMetric'
>
