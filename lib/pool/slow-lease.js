'use strict'

/**
 * The leases that are not the plain one: zero-filled, of an odd size, at the ceiling, or from a
 * closed pool.
 */

const {
  Buffer,
  constants: { MAX_LENGTH }
} = require('node:buffer')
const native = require('../runtime/native')
const { zeroFill, zeroWhole } = require('../runtime/intrinsics')
const { classOf } = require('../cache/size-class')
const channels = require('./channels')
const { Closed, Exhausted, NEVER, OutOfRange } = require('./errors')
const { bufferOf, leaseOf } = require('./lease')
const { leaseUnpooled } = require('./unpooled')

/** @typedef {import('../cache/thread-cache').ThreadCache} ThreadCache */

const { allocUnsafe } = Buffer
const { isInteger } = Number

/**
 * Leases a Buffer, whatever `size` is.
 *
 * @param {ThreadCache} cache
 * @param {any} size
 * @param {boolean} zeroed
 * @returns {Buffer}
 */
function leaseSlowly(cache, size, zeroed) {
  // This throws Node's own error for what is no size.
  if (typeof size !== 'number' || !(size >= 0 && size <= MAX_LENGTH)) return allocUnsafe(size)
  if (!isInteger(size)) throw new OutOfRange('size', 'an integer', size)
  if (size === 0 || size > cache.largest) return leaseUnpooled(cache, size, zeroed)
  const buffer = cache.filler.takeRefusal() ? undefined : cache.leaseBuffer(size)
  if (buffer === undefined) return leaseRefused(cache, size, zeroed)
  return zeroAsAsked(buffer, zeroed)
}

/**
 * Leases a Buffer for a `Lease`, whatever `size` is.
 *
 * @param {ThreadCache} cache
 * @param {any} size
 * @param {boolean} zeroed
 */
function leaseOwned(cache, size, zeroed) {
  if (!(isSize(size) && size > 0 && size <= cache.largest)) {
    return leaseOf(leaseSlowly(cache, size, zeroed))
  }
  const lease = cache.lease(size)
  if (lease === undefined) return leaseOf(leaseRefused(cache, size, zeroed))
  zeroAsAsked(bufferOf(lease), zeroed)
  return lease
}

/**
 * Leases a Buffer when the cache has refused a block of its class: a larger block or V8 may serve
 * it.
 *
 * @param {ThreadCache} cache
 * @param {number} size
 * @param {boolean} zeroed
 * @returns {Buffer}
 */
function leaseRefused(cache, size, zeroed) {
  // The refusal was for this lease, and not for the next one.
  cache.filler.takeRefusal()
  const larger = cache.leaseLarger(size)
  if (larger !== undefined) return zeroAsAsked(bufferOf(larger), zeroed)
  if (cache.isClosed) throw new Closed(cache.name)
  if (size === 0 || size > cache.largest) return leaseUnpooled(cache, size, zeroed)
  publishExhausted(cache, size, cache.throwsWhenExhausted ? 'throw' : 'unpooled')
  if (!cache.throwsWhenExhausted) return leaseUnpooled(cache, size, zeroed)
  throw exhausted(cache, size)
}

/**
 * Overwrites all of a block with zeros if its user asked for that. Under Node's flag each lease has
 * zeros already.
 *
 * @param {Buffer} buffer just leased
 * @param {boolean} zeroed
 */
function zeroAsAsked(buffer, zeroed) {
  return zeroed && !zeroFill ? zeroWhole(buffer) : buffer
}

/**
 * Tells whether the pool could hold a request with nothing else leased.
 *
 * @param {ThreadCache} cache
 * @param {number} size
 */
function canEverHold(cache, size) {
  if (size > cache.maxBytes) return false
  return size > cache.largest || native.canEverHold(cache.attachment, classOf(size))
}

/**
 * Makes the error of a request that the pool has no memory for.
 *
 * @param {ThreadCache} cache
 * @param {number} size
 */
function exhausted(cache, size) {
  const why = canEverHold(cache, size)
    ? 'too much of it is leased, or on its way back, or others wait for it'
    : NEVER
  return new Exhausted(cache.name, size, cache.maxBytes, why)
}

/**
 * @param {ThreadCache} cache
 * @param {number} size
 * @param {'throw' | 'unpooled' | 'wait'} outcome
 */
function publishExhausted({ name, maxBytes }, size, outcome) {
  if (channels.exhausted.hasSubscribers) {
    channels.exhausted.publish({ pool: name, size, maxBytes, outcome })
  }
}

/**
 * Tells whether a value is a size that a Buffer can have.
 *
 * @param {any} size
 */
function isSize(size) {
  return isInteger(size) && size >= 0 && size <= MAX_LENGTH
}

module.exports = {
  canEverHold,
  exhausted,
  isSize,
  leaseOwned,
  leaseRefused,
  leaseSlowly,
  publishExhausted,
  zeroAsAsked
}
