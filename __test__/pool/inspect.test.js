'use strict'

/** How `console.log` shows a pool, a lease and a growable buffer. */

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { inspect } = require('node:util')
const { BufferPool } = require('../..')

const MIB = 1024 * 1024

test('A pool shows its name, what it has, and its ceiling', () => {
  const pool = new BufferPool({ name: 'seen', maxBytes: MIB })
  const buffer = pool.allocUnsafe(4096)
  const shown = "BufferPool { name: 'seen', inUseBytes: 4096, idleBytes: 0, maxBytes: 1048576 }"
  assert.equal(inspect(pool, { breakLength: Infinity }), shown)
  pool.release(buffer)
  pool.close()
  assert.match(inspect(pool), /inUseBytes: 0/)
})

test('A lease shows its Buffer, empty after the release', () => {
  const pool = new BufferPool()
  const lease = pool.lease(2)
  lease.buffer.write('hi')
  assert.equal(inspect(lease), 'Lease { buffer: <Buffer 68 69> }')
  lease.release()
  assert.equal(inspect(lease), 'Lease { buffer: <Buffer > }')
})

test('A buffer that grows shows its length and capacity, released or not', () => {
  const pool = new BufferPool()
  const bytes = pool.byteBuffer(1000).append('four')
  assert.equal(inspect(bytes), `ByteBuffer { length: 4, capacity: ${bytes.capacity} }`)
  bytes.release()
  assert.match(inspect(bytes), /^ByteBuffer \{/)
  assert.throws(() => bytes.append('x'), { code: 'ERR_CISTERN_ALREADY_RELEASED' })
})

test('Deep inside of something else only the name is shown; a prototype is itself', () => {
  const pool = new BufferPool()
  assert.equal(inspect({ deep: { pool } }, { depth: 0 }), '{ deep: [Object] }')
  assert.equal(inspect({ pool }, { depth: 0 }), '{ pool: [BufferPool] }')
  assert.doesNotThrow(() => inspect(BufferPool.prototype))
})
