import metrics from './index.js'

export const { register } = metrics
export default metrics
