'use strict'

/** Calls that a pool refuses whatever there is. */

const assert = require('node:assert/strict')
const { constants } = require('node:buffer')
const { BufferPool } = require('../../..')

const TYPE = 'ERR_INVALID_ARG_TYPE'
const RANGE = 'ERR_OUT_OF_RANGE'
const VALUE = 'ERR_INVALID_ARG_VALUE'
const NOT_POOLED = 'ERR_CISTERN_NOT_POOLED'
const INVALID_HANDLE = 'ERR_CISTERN_INVALID_HANDLE'

const NO_SIZES = [
  ["'1'", '1', TYPE],
  ['null', null, TYPE],
  ['1n', 1n, TYPE],
  ['-1', -1, RANGE],
  ['NaN', NaN, RANGE],
  ['1.5', 1.5, RANGE],
  ['MAX_LENGTH + 1', constants.MAX_LENGTH + 1, RANGE]
]

/**
 * Each as code, with its error's code.
 *
 * @type {[string, string, (pool: BufferPool) => unknown][]}
 */
const REFUSALS = [
  ...['allocUnsafe', 'alloc', 'lease', 'acquire', 'byteBuffer'].flatMap((method) =>
    NO_SIZES.map(([text, size, code]) => [`${method}(${text})`, code, (pool) => pool[method](size)])
  ),
  ['lease(1, 5)', TYPE, (pool) => pool.lease(1, 5)],
  ['lease(1, { zero: 1 })', TYPE, (pool) => pool.lease(1, { zero: 1 })],
  ['acquire(1, null)', TYPE, (pool) => pool.acquire(1, null)],
  ['acquire(1, { signal: 5 })', TYPE, (pool) => pool.acquire(1, { signal: 5 })],
  [
    'acquire(1, { signal: aborted })',
    'ABORT_ERR',
    (pool) => pool.acquire(1, { signal: AbortSignal.abort() })
  ],
  ["trim('1')", TYPE, (pool) => pool.trim('1')],
  ['trim(-1)', RANGE, (pool) => pool.trim(-1)],
  ['trim(NaN)', RANGE, (pool) => pool.trim(NaN)],
  ['new BufferPool(5)', TYPE, () => new BufferPool(5)],
  ['new BufferPool({ name: 5 })', TYPE, () => new BufferPool({ name: 5 })],
  ['new BufferPool({ maxBytes: 0 })', RANGE, () => new BufferPool({ maxBytes: 0 })],
  ['new BufferPool({ size: 1 })', VALUE, () => new BufferPool({ size: 1 })],
  ["new BufferPool({ onExhausted: 'no' })", VALUE, () => new BufferPool({ onExhausted: 'no' })],
  ['BufferPool.attach(5)', TYPE, () => BufferPool.attach(5)],
  ['BufferPool.attach({})', INVALID_HANDLE, () => BufferPool.attach({})],
  [
    'BufferPool.attach(forged)',
    INVALID_HANDLE,
    () => BufferPool.attach({ type: 'cistern.pool', name: 'pool', key: '0'.repeat(48) })
  ],
  ...[undefined, null, 5, 'view', {}, []].map((value) => [
    `release(${JSON.stringify(value)})`,
    NOT_POOLED,
    (pool) => pool.release(value)
  ]),
  ['release(Buffer.alloc(10))', NOT_POOLED, (pool) => pool.release(Buffer.alloc(10))],
  ['release(new ArrayBuffer(10))', NOT_POOLED, (pool) => pool.release(new ArrayBuffer(10))],
  ['release(a shared one)', NOT_POOLED, (pool) => pool.release(new SharedArrayBuffer(10))],
  [
    'release(a proxy)',
    NOT_POOLED,
    (pool) => pool.release(new Proxy(Buffer.alloc(10), Object.create(null)))
  ],
  [
    "release(another pool's)",
    NOT_POOLED,
    (pool) => {
      const other = new BufferPool()
      const buffer = other.alloc(100)
      try {
        assert.equal(pool.owns(buffer), false)
        pool.release(buffer)
      } finally {
        other.release(buffer)
      }
    }
  ]
]

module.exports = { REFUSALS }
