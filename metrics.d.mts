import * as metrics from './metrics.js'

export * from './metrics.js'
export default metrics
