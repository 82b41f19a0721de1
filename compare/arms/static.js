'use strict'

/**
 * Buffers of the largest size, for ever: one for each that is in use at the same time. Useless in a real
 * server; it marks the limit of what reuse can bring.
 */
module.exports = {
  name: 'static',
  about: 'one Buffer for ever, or one per request under way: the limit',
  open({ maxSize }) {
    const free = []
    let made = 0
    const give = (buffer) =>
      free.push(buffer.length === maxSize ? buffer : Buffer.from(buffer.buffer, 0, maxSize))
    return {
      take(size) {
        const whole = free.pop() ?? make()
        return size === maxSize ? whole : whole.subarray(0, size)
      },
      give,
      end(response, buffer) {
        response.once('close', () => give(buffer))
        response.end(buffer)
      },
      stats: () => ({ allocBytes: made * maxSize, inUseBytes: (made - free.length) * maxSize }),
      close() {}
    }

    function make() {
      made++
      // Not a slice of V8's own pool: its ArrayBuffer has to be all its own.
      return Buffer.allocUnsafeSlow(maxSize)
    }
  }
}
