'use strict'

/**
 * @param {object} options of the pool
 * @param {boolean} releases whether Buffers are given back, or left to the garbage collector
 * @returns {import('./index').OpenArm}
 */
function open(options, releases) {
  // Here and not at the top: an arm of V8 must not depend on the library, nor carry its memory.
  const { BufferPool } = require('cistern')
  const pool = new BufferPool(options)
  return {
    take: (size) => pool.allocUnsafe(size),
    give: releases ? (buffer) => pool.release(buffer) : () => {},
    stats: () => pool.stats(),
    close: () => pool.close()
  }
}

/** Buffers from cistern. */
module.exports = [
  {
    name: 'pool-gc',
    about: 'cistern, never released: only the finalizer brings Buffers back',
    open: () => open({}, false)
  },
  {
    name: 'pool-reuse',
    about: 'cistern with detachOnRelease: false: the same ArrayBuffer again',
    open: () => open({ detachOnRelease: false }, true)
  },
  {
    name: 'pool-safe',
    about: 'cistern as it comes: released, and stale views made zero-length',
    open: () => open({}, true)
  }
]
