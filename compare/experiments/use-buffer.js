'use strict'

/** Any byte but zero, which fresh memory holds without a write. */
const FILL = 0x61

/**
 * Takes a Buffer, writes all of it, and gives it back, as every experiment does.
 *
 * @param {{ take: (size: number) => Buffer, give: (buffer: Buffer) => void }} arm
 * @param {number} size in bytes
 */
function useBuffer(arm, size) {
  const buffer = arm.take(size)
  if (buffer.length !== size) {
    throw new Error(`a Buffer of ${size} bytes was asked for, one of ${buffer.length} came`)
  }
  buffer.fill(FILL)
  arm.give(buffer)
}

module.exports = { useBuffer }
