import * as cistern from './index.js'

export * from './index.js'
export default cistern
