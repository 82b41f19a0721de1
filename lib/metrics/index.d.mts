import * as metrics from './index.js'

export * from './index.js'
export default metrics
