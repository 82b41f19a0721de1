/** Compiled by `npm run lint`, never run: what the types must accept and refuse. */

import * as promClient from 'prom-client'
import { shared } from '../../index'
import { register, type RegisterOptions } from '../../lib/metrics'

const openMetrics = new promClient.Registry<promClient.OpenMetricsContentType>()
const options: RegisterOptions = { prefix: 'app_', registry: openMetrics }
const unregister: () => void = register(shared, promClient, options)
register(shared, promClient, { registry: new promClient.Registry() })
register(shared, promClient)

// @ts-expect-error: an option that does not exist
register(shared, promClient, { prefx: 'app_' })
// @ts-expect-error: not prom-client
register(shared, {})
// @ts-expect-error: not a pool
register({}, promClient)
// @ts-expect-error: not a registry
register(shared, promClient, { registry: new Map() })

export { unregister }
