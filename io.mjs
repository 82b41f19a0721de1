import io from './io.js'

export const { chunks, end, onread, pumpFile, readBody } = io
export default io
