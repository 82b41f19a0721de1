import * as io from './index.js'

export * from './index.js'
export default io
