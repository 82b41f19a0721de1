'use strict'

/**
 * What `npm run bench` compares. Each contestant, given sizes, makes an operation: one Buffer
 * got, its first byte written, and given back.
 *
 * @typedef {object} Contestant
 * @property {string} name
 * @property {(sizes: number[]) => () => void} prepare the operation, on these sizes in turn
 * @property {boolean} [fixed] whether it can serve one size only
 * @property {boolean} [needsTurns] whether memory comes back only when the event loop turns: a
 *   turn is then part of what is measured
 * @property {boolean} [needsTransfer] whether it takes `ArrayBuffer.prototype.transfer()`
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
 * Where each Buffer is put before it is given back, as a user would hand it to someone: one that
 * never leaves its loop V8 may not make at all.
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
 * An operation on one size, or on a power of two of sizes in turn.
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
