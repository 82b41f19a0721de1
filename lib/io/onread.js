'use strict'

/**
 * The `onread` option of `net.connect`, with a pooled Buffer: Node reads into it again and again, and
 * hands out nothing else.
 *
 * Node asks for memory before there is a connection, without saying for which socket, and native code
 * keeps its address until the socket is closed. So a socket gets a small piece of V8's memory first:
 * one that never connects, or never hears anything, holds no block. With the first bytes comes
 * the socket itself; from then on it reads into a block of its own, which is released when it closes.
 */

const { constants } = require('node:buffer')
const { isOver } = require('../lease')
const { checkFunction, checkInteger, checkOptions, checkPool } = require('./checks')

/** What Node's own sockets read at a time, in bytes: 64 KiB. */
const SIZE = 64 * 1024

/** The most that a socket reads before it has a block, in bytes: 1 KiB. */
const FIRST_BYTES = 1024

/**
 * @param {import('../buffer-pool').BufferPool} pool
 * @param {import('../../io').OnReadOptions} options
 * @param {import('../../io').OnReadCallback} callback
 */
function onread(pool, options, callback) {
  checkPool(pool)
  checkOptions(options, ['size'])
  const { size = SIZE } = options
  checkInteger('options.size', size, 1, constants.MAX_LENGTH)
  checkFunction('callback', callback)
  const readers = new Readers(pool, size, callback)
  return {
    buffer: () => readers.nextBuffer(),
    /**
     * @this {import('node:net').Socket}
     * @param {number} length
     * @param {Uint8Array} bytes
     */
    callback(length, bytes) {
      return readers.read(this, length, bytes)
    }
  }
}

/** The sockets that share one option, each with its lease. */
class Readers {
  #pool
  #size
  #callback
  /** @type {WeakMap<import('node:net').Socket, import('../lease').Lease>} */
  #leases = new WeakMap()
  /**
   * What the socket reads into next whose callback has just returned.
   *
   * @type {Buffer | undefined}
   */
  #next

  /**
   * @param {import('../buffer-pool').BufferPool} pool
   * @param {number} size
   * @param {import('../../io').OnReadCallback} callback
   */
  constructor(pool, size, callback) {
    this.#pool = pool
    this.#size = size
    this.#callback = callback
  }

  /** Asked for by a socket that gets a handle, and by one whose callback has just returned. */
  nextBuffer() {
    const next = this.#next
    this.#next = undefined
    return next ?? Buffer.allocUnsafe(Math.min(this.#size, FIRST_BYTES))
  }

  /**
   * @param {import('node:net').Socket} socket
   * @param {number} length
   * @param {Uint8Array} bytes that it has read into
   */
  read(socket, length, bytes) {
    let lease = this.#leases.get(socket)
    if (lease === undefined) {
      lease = this.#lease(socket)
      if (lease === undefined) return false
      lease.buffer.set(bytes.subarray(0, length))
      socket.once('close', () => this.#end(socket))
    }
    const goesOn = this.#call(socket, length, lease)
    // Native code has the address: it needs another, now.
    if (isOver(lease)) lease = this.#lease(socket)
    // Not before: the callback may have opened another socket with this option.
    this.#next = lease?.buffer
    return goesOn
  }

  /**
   * @param {import('node:net').Socket} socket
   * @param {number} length
   * @param {import('../lease').Lease} lease
   */
  #call(socket, length, lease) {
    try {
      const buffer = /** @type {import('../../index').PooledBuffer} */ (lease.buffer)
      return this.#callback.call(socket, length, buffer) !== false
    } catch (error) {
      // Then Node asks for no other memory.
      if (isOver(lease)) socket.destroy()
      throw error
    }
  }

  /** @param {import('node:net').Socket} socket closed; it may connect again */
  #end(socket) {
    this.#leases.get(socket)?.release()
    this.#leases.delete(socket)
  }

  /**
   * A block for a socket, which is destroyed where there is none.
   *
   * @param {import('node:net').Socket} socket
   */
  #lease(socket) {
    try {
      const lease = this.#pool.lease(this.#size)
      this.#leases.set(socket, lease)
      return lease
    } catch (error) {
      socket.destroy(/** @type {Error} */ (error))
      return undefined
    }
  }
}

module.exports = { onread }
