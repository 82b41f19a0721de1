'use strict'

/**
 * The contestants of `npm run bench`. For given sizes each makes an operation that gets one Buffer,
 * writes its first byte and gives it back.
 *
 * @typedef {object} Contestant
 * @property {string} name
 * @property {(sizes: number[]) => () => void} prepare makes the operation, on these sizes in turn
 * @property {boolean} [fixed] true if it serves one size only
 * @property {boolean} [needsTurns] true if memory is freed only in a later event-loop turn,
 *   which then counts in the measurement
 * @property {boolean} [needsTransfer] true if it needs `ArrayBuffer.prototype.transfer()`
 */

// @ts-expect-error: it has no types
const reusePool = require('buffer-reuse-pool')
const { BufferPool } = require('..')
const native = require('../lib/runtime/native')
const { toSettings } = require('../lib/pool/options')
const { classOf } = require('../lib/cache/size-class')

const hasTransfer = 'transfer' in ArrayBuffer.prototype

/** Live Buffers in the bare stack. */
const STOCK = 8

/**
 * Holds each Buffer before it is given back, as other code would hold it. V8 may not create a
 * Buffer that never leaves its loop.
 *
 * @type {{ buffer: Buffer }}
 */
const user = { buffer: Buffer.alloc(1) }

/** @param {Buffer} buffer */
function use(buffer) {
  buffer[0] = 1
  user.buffer = buffer
}

/**
 * Returns an operation on one size, or on 2^n sizes in turn.
 *
 * @param {number[]} sizes
 * @param {(size: number) => void} operate
 */
function onEach(sizes, operate) {
  const [size] = sizes
  if (sizes.length === 1) return () => operate(size)
  const mask = sizes.length - 1
  let i = 0
  return () => operate(sizes[i++ & mask])
}

/** @param {{ detachOnRelease: boolean }} options */
function pooled(options) {
  return (/** @type {number[]} */ sizes) => {
    const pool = new BufferPool(options)
    return onEach(sizes, (size) => {
      const buffer = pool.allocUnsafe(size)
      use(buffer)
      pool.release(buffer)
    })
  }
}

/** @param {(size: number) => Buffer} take */
function collected(take) {
  return (/** @type {number[]} */ sizes) => onEach(sizes, (size) => use(take(size)))
}

/** @type {Contestant[]} */
const contestants = [
  {
    name: 'bare array pop + push',
    fixed: true,
    prepare(sizes) {
      /** @type {Buffer[]} */
      const stack = Array.from({ length: STOCK }, () => Buffer.allocUnsafeSlow(sizes[0]))
      return onEach(sizes, () => {
        const buffer = /** @type {Buffer} */ (stack.pop())
        use(buffer)
        stack.push(buffer)
      })
    }
  },
  {
    name: 'bare transfer() + Buffer.from',
    needsTransfer: true,
    prepare(sizes) {
      let arrayBuffer = new ArrayBuffer(Math.max(...sizes))
      return onEach(sizes, (size) => {
        arrayBuffer = arrayBuffer.transfer()
        use(Buffer.from(arrayBuffer, 0, size))
      })
    }
  },
  {
    name: 'npm buffer-reuse-pool',
    fixed: true,
    prepare(sizes) {
      const pool = reusePool.pool(sizes[0])
      return onEach(sizes, () => {
        const buffer = pool.alloc()
        use(buffer)
        reusePool.free(buffer)
      })
    }
  },
  { name: 'cistern, detachOnRelease: false', prepare: pooled({ detachOnRelease: false }) },
  {
    name: 'cistern, default',
    needsTurns: !hasTransfer,
    prepare: pooled({ detachOnRelease: true })
  },
  { name: 'Buffer.allocUnsafe', prepare: collected(Buffer.allocUnsafe) },
  { name: 'Buffer.allocUnsafeSlow', prepare: collected(Buffer.allocUnsafeSlow) },
  { name: 'Buffer.alloc', prepare: collected((size) => Buffer.alloc(size)) },
  {
    name: 'fresh external ArrayBuffer, finalizer',
    needsTurns: true,
    prepare(sizes) {
      const attachment = native.open(toSettings({}))
      return onEach(sizes, (size) => {
        const index = classOf(size)
        const arrayBuffer =
          native.lendIdle(attachment, index) ?? native.lendFresh(attachment, index)
        use(Buffer.from(/** @type {ArrayBuffer} */ (arrayBuffer), 0, size))
      })
    }
  }
]

module.exports = { contestants, hasTransfer }
