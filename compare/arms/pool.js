'use strict'

/**
 * @param {object} options of the pool
 * @returns {import('./index').OpenArm}
 */
function open(options) {
  // Required only here: an arm of V8 must not depend on the library, nor hold its memory.
  const { BufferPool } = require('cistern')
  const { end } = require('cistern/io')
  const pool = new BufferPool(options)
  return {
    take: (size) => pool.allocUnsafe(size),
    give: (buffer) => pool.release(buffer),
    end: (response, buffer) => end(pool, response, buffer),
    stats: () => pool.stats(),
    close: () => pool.close()
  }
}

function openWithoutRelease() {
  return { ...open({}), give() {}, end: (response, buffer) => response.end(buffer) }
}

/** Buffers from cistern. */
module.exports = [
  {
    name: 'pool-gc',
    about: 'cistern, never released: only the finalizer returns Buffers',
    open: openWithoutRelease
  },
  {
    name: 'pool-reuse',
    about: 'cistern with detachOnRelease: false: it reuses the same ArrayBuffer',
    open: () => open({ detachOnRelease: false })
  },
  {
    name: 'pool-safe',
    about: 'cistern with its defaults: a release makes stale views zero-length',
    open: () => open({})
  }
]
