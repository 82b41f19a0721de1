import type * as promClient from 'prom-client'
import type { BufferPool } from '../..'

/**
 * Exports a pool's `stats()` as metrics in a registry of prom-client. Each series has the label
 * `pool` with the pool's name. The statistics are read once per scrape, and at no other time.
 *
 * A registry can have several pools, each with a name of its own. Registering a pool again in the
 * same registry changes nothing, and returns the same function. The registry keeps the pool from
 * the garbage collector until you unregister it. Closing the pool does not unregister it.
 *
 * @returns a function that unregisters the pool: its series disappear, and with the last pool the
 *   metrics. Further calls do nothing
 * @throws {TypeError} `ERR_INVALID_ARG_TYPE`; `ERR_INVALID_ARG_VALUE` if the registry has another
 *   pool of the same name, or other metrics of these names, and for a wrong option
 */
export function register(
  pool: BufferPool,
  promClient: PromClient,
  options?: RegisterOptions
): () => void

export interface RegisterOptions {
  /** The prefix of each metric's name. Default: `'cistern_'`. */
  prefix?: string | undefined
  /** The registry. Default: prom-client's own, `promClient.register`. */
  registry?: MetricsRegistry | undefined
}

/** The module prom-client, as `require` returns it, or as the default or namespace of `import`. */
export type PromClient = Pick<typeof promClient, 'Counter' | 'Gauge' | 'register'>

/** A Registry of prom-client, which may write Prometheus's format or OpenMetrics. */
export type MetricsRegistry = Pick<
  promClient.Registry,
  'getSingleMetric' | 'registerMetric' | 'removeSingleMetric'
>
