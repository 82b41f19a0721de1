'use strict'

/** Any byte but zero: a zero could be had from fresh memory without writing it. */
const FILL = 0x61

/**
 * What every experiment does with a Buffer: take it, write all of it, let it go.
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
