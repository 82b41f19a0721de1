import * as io from './io.js'

export * from './io.js'
export default io
