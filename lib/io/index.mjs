import io from './index.js'

export const { chunks, end, onread, pumpFile, readBody } = io
export default io
