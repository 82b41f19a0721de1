'use strict'

/**
 * Reuses Buffers of the largest size, as many as are in use at the same time, and never frees them.
 * No real server can do that; the arm marks the limit of what reuse can gain.
 */
module.exports = {
  name: 'static',
  about: 'one Buffer that is never replaced, or one per request in flight: the limit',
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
      // `give` needs an ArrayBuffer that holds this Buffer alone, not a slice of Node's pool.
      return Buffer.allocUnsafeSlow(maxSize)
    }
  }
}
