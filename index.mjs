import cistern from './index.js'

export const { BufferPool, shared } = cistern
export default cistern
