'use strict'

/** One Buffer for ever. Useless in a real server; it marks the limit of what reuse can bring. */
module.exports = {
  name: 'static',
  about: 'one Buffer for ever: the limit',
  open({ maxSize }) {
    const whole = Buffer.allocUnsafeSlow(maxSize)
    return {
      take: (size) => (size === maxSize ? whole : whole.subarray(0, size)),
      give() {},
      stats: () => ({ allocBytes: maxSize, inUseBytes: maxSize }),
      close() {}
    }
  }
}
