'use strict'

/**
 * The releases that are not the plain one: of sampled leases, of V8's memory, of moved memory, and
 * of no lease at all.
 */

const { isArrayBuffer } = require('node:util').types
const native = require('../runtime/native')
const { byteLengthOf, zero } = require('../runtime/intrinsics')
const { RemoteState } = require('../cache/states')
const { hang } = require('../cache/tag')
const { LEASED, SAMPLE, SAMPLED, STATE } = require('../cache/thread-counters')
const { AlreadyReleased, Detached, NotPooled, Undetachable } = require('./errors')
const { releaseBlock } = require('./lease')
const { moveMemory, releaseUnpooled } = require('./unpooled')

/**
 * @typedef {import('../cache/thread-cache').ThreadCache} ThreadCache
 * @typedef {import('../cache/slot').Slot} Slot
 */

/**
 * Releases a lease that the plain way did not take back, or throws the error that says why there is
 * none.
 *
 * @param {ThreadCache} cache
 * @param {Slot | undefined} slot that hangs on the ArrayBuffer
 * @param {ArrayBuffer} arrayBuffer
 * @param {ArrayBufferView | ArrayBuffer} view
 */
function releaseSlowly(cache, slot, arrayBuffer, view) {
  const { name } = cache
  if (slot?.pool !== cache.pool) {
    releaseRemotely(cache, arrayBuffer, view)
    // Marks the ArrayBuffer as released, so that a second release fails.
    if (slot === undefined) hang(arrayBuffer, cache.gone)
    return
  }
  if (slot.arrayBuffer !== arrayBuffer) throw new AlreadyReleased(name, view)
  // Another block may have the row of one that was transferred.
  if (byteLengthOf(arrayBuffer) === 0) throw new Detached(name, view)
  const state = slot.words[slot.at + STATE]
  if (state === SAMPLED) {
    // A formatter of stacks releases by a stale view during the lease, whose Buffer no code has
    // received yet.
    if (slot.words[slot.at + SAMPLE] === 0) throw new AlreadyReleased(name, view)
    cache.sampler.drop(slot)
    releaseBlock(slot.pool, arrayBuffer)
    return
  }
  if (state !== LEASED) throw new AlreadyReleased(name, view)
  if (slot.magazine !== null) throw new Undetachable(name, view)
  releaseUnpooled(cache, slot, arrayBuffer, view)
}

/**
 * Releases a lease by an ArrayBuffer without a slot of this pool's, whose memory came by a message
 * or by `transfer()`.
 *
 * @param {ThreadCache} cache
 * @param {ArrayBuffer} arrayBuffer
 * @param {ArrayBufferView | ArrayBuffer} view
 */
function releaseRemotely(cache, arrayBuffer, view) {
  const state = remoteStateOf(cache, arrayBuffer)
  if (state === RemoteState.RELEASED) throw new AlreadyReleased(cache.name, view)
  if (state === RemoteState.UNKNOWN) throw new NotPooled(cache.name, view)
  const last = moveMemory(cache, arrayBuffer, view)
  // The core overwrites its own blocks.
  if (state === RemoteState.LEASED_UNPOOLED && cache.scrubs) zero(last)
  if (!native.releaseRemotely(cache.attachment, last)) throw new AlreadyReleased(cache.name, view)
  cache.wakes.onWake()
}

/**
 * Tells whether an ArrayBuffer without a slot of this pool's has memory that the pool has leased.
 *
 * @param {ThreadCache} cache
 * @param {unknown} value perhaps no ArrayBuffer
 */
function isLeasedRemotely(cache, value) {
  const state = remoteStateOf(cache, value)
  return state === RemoteState.LEASED || state === RemoteState.LEASED_UNPOOLED
}

/**
 * @param {ThreadCache} cache
 * @param {unknown} value
 * @returns {number} a `RemoteState`
 */
function remoteStateOf(cache, value) {
  if (!isArrayBuffer(value)) return RemoteState.UNKNOWN
  return native.stateOf(cache.attachment, value)
}

module.exports = { isLeasedRemotely, releaseSlowly }
