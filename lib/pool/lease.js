'use strict'

/** Leases as objects: a Buffer together with its release. */

const { custom, draw } = require('./inspect')
const { arrayBufferOf } = require('../runtime/intrinsics')
const { isLeased } = require('../cache/slot')
const { slotOf } = require('../cache/tag')

/**
 * A pool's `release`, as it was when the pool's module was loaded. The pool's module requires this
 * one, so it binds the function.
 *
 * @type {(pool: import('./buffer-pool').BufferPool, arrayBuffer: ArrayBuffer) => void}
 */
let release

/** @param {typeof release} poolRelease */
function bindRelease(poolRelease) {
  release = poolRelease
}

/**
 * Releases a block to its pool, for the rest of this library: a patched prototype does not see
 * that.
 *
 * @param {import('./buffer-pool').BufferPool} pool
 * @param {ArrayBuffer} arrayBuffer
 */
function releaseBlock(pool, arrayBuffer) {
  release(pool, arrayBuffer)
}

/**
 * Tells whether a lease is over: its block is back, or has moved elsewhere.
 *
 * @type {(lease: Lease) => boolean}
 */
let isOver

/**
 * Ends a lease, unless it is over, for the rest of this library: a patched prototype does not see
 * that.
 *
 * @type {(lease: Lease) => void}
 */
let endLease

/**
 * Returns the Buffer of a lease.
 *
 * @type {(lease: Lease) => Buffer}
 */
let bufferOf

class Lease {
  static {
    bufferOf = (lease) => lease.#buffer
    isOver = (lease) => lease.#isOver
    endLease = (lease) => lease.#end()
  }

  #buffer
  #generation

  /**
   * @param {Buffer} buffer of any length
   * @param {import('../cache/slot').Slot} slot the buffer's, leased
   */
  constructor(buffer, slot) {
    this.#buffer = buffer
    this.#generation = slot.generation
  }

  /**
   * The slot, looked up each time: a reference would keep the Buffer of the block's next owner
   * alive.
   */
  get #slot() {
    return /** @type {import('../cache/slot').Slot} */ (slotOf(arrayBufferOf(this.#buffer)))
  }

  /** The Buffer, of exactly the length that was asked for. */
  get buffer() {
    return this.#buffer
  }

  /** Gives the block back; does nothing if any view of it was released already. */
  release() {
    this.#end()
  }

  [Symbol.dispose]() {
    this.#end()
  }

  get #isOver() {
    const slot = this.#slot
    return slot.generation !== this.#generation || !isLeased(slot)
  }

  #end() {
    if (this.#isOver) return
    const slot = this.#slot
    release(slot.pool, /** @type {ArrayBuffer} */ (slot.arrayBuffer))
  }

  /**
   * @param {number} depth
   * @param {import('./inspect').Options} options
   * @param {import('./inspect').Inspect} inspect
   */
  [custom](depth, options, inspect) {
    if (!(#buffer in this)) return this
    return draw('Lease', () => ({ buffer: this.#buffer }), depth, options, inspect)
  }
}

/**
 * Makes the `Lease` of a Buffer.
 *
 * @param {Buffer} buffer just leased
 */
function leaseOf(buffer) {
  return new Lease(
    buffer,
    /** @type {import('../cache/slot').Slot} */ (slotOf(arrayBufferOf(buffer)))
  )
}

module.exports = { Lease, bindRelease, bufferOf, endLease, isOver, leaseOf, releaseBlock }
