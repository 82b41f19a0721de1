'use strict'

/**
 * The `onread` option of `net.connect` with a pooled Buffer: Node reads into it again and again.
 *
 * Node asks for memory before there is a connection, and does not say for which socket. Native code
 * keeps the address of that memory until the socket is closed. So a socket first gets a little of
 * V8's memory: one that never connects or never receives anything holds no block.
 *
 * With the first bytes, Node shows the socket. From then on the socket reads into a block of its
 * own, which is released when its handle is closed.
 *
 * User code can call both functions of the option, and can emit 'close'. So a block is handed out
 * once. It is released only where Node shows that this socket has taken it, and native code that
 * its handle is closed.
 */

const { constants } = require('node:buffer')
const { Socket } = require('node:net')
const { isProxy, isUint8Array } = require('node:util').types
const { addEntries } = require('../cache/call-site')
const { leaseFrom, cacheOf } = require('../pool/buffer-pool')
const { AlreadyReleased, InvalidArgType } = require('../pool/errors')
const { bufferOf, isOver } = require('../pool/lease')
const { isNode } = require('../runtime/platform')
const {
  Bytes,
  allocUnsafeSlow,
  arrayBufferOf,
  closeOff,
  lengthOf,
  setBytes,
  weakTable
} = require('../runtime/intrinsics')
const { throwUncaught } = require('../runtime/timers')
const { checkFunction, checkInteger, checkOptions, checkPool } = require('./checks')
const { isClosed } = require('./connection')
const { handleOf } = require('./handle')
const { giveBack } = require('./leases')
const { addListener, getterOf, removeListener } = require('./stream-state')

/** The default of `size`: 64 KiB, like the reads of Node's own sockets. */
const SIZE = 64 * 1024

/** The most bytes that a socket reads before it has a block: 1 KiB. */
const FIRST_BYTES = 1024

// As they were when cistern was loaded.
const { getOwnPropertySymbols, hasOwn } = Object
const { get: find, set: put } = weakTable
const descriptionOf = getterOf(Symbol.prototype, 'description')
const offsetOf = getterOf(Object.getPrototypeOf(Uint8Array.prototype), 'byteOffset')

/**
 * The key of the memory that Node has a socket read into. Other symbols can have its description.
 */
const BUFFER = bufferKeyOf(new Socket())

/** Stands for the memory that a socket already reads into. */
const SAME = Symbol('same')

/**
 * @param {import('../pool/buffer-pool').BufferPool} pool
 * @param {import('.').OnReadOptions} options
 * @param {import('.').OnReadCallback} callback
 */
function onread(pool, options, callback) {
  checkPool(pool)
  checkOptions(options, ['size'])
  const { size = SIZE } = options
  checkInteger('options.size', size, 1, constants.MAX_LENGTH)
  checkFunction('callback', callback)
  const readers = new Readers(pool, size, callback)
  return {
    buffer: () => /** @type {Uint8Array} */ (readers.nextBuffer()),
    /**
     * @this {Socket}
     * @param {number} length
     * @param {Uint8Array} bytes
     */
    callback(length, bytes) {
      return readers.read(this, length, bytes)
    }
  }
}

/** A block, and the socket that is to read into it. */
class Reader {
  #socket
  #handle
  /** Whether the block was handed out, by a call that does not show the socket. */
  #isGiven = false
  /** Whether this socket has certainly taken the block. Then nobody else has. */
  #isTaken = false

  /**
   * @param {Socket} socket
   * @param {import('../pool/lease').Lease} lease
   */
  constructor(socket, lease) {
    this.#socket = socket
    this.#handle = handleOf(socket)
    this.lease = lease
  }

  get buffer() {
    return bufferOf(this.lease)
  }

  get isGiven() {
    return this.#isGiven
  }

  /** Whether the socket still has the same handle: it may have connected again. */
  get isCurrent() {
    return handleOf(this.#socket) === this.#handle
  }

  listen() {
    addListener(this.#socket, 'close', this.#onClose)
  }

  /**
   * Returns the Buffer, once: two sockets MUST NOT get it.
   *
   * @returns {Buffer | undefined}
   */
  give() {
    // Other runtimes ask for it before each read.
    if (this.#isGiven && isNode) return undefined
    // Between the callback and this call, other code may have released the block, or closed the
    // socket.
    if (isOver(this.lease)) return undefined
    this.#isGiven = true
    return this.buffer
  }

  /** Notes whether the socket has taken the block. */
  look() {
    this.#isTaken ||= this.#isGiven && (!isNode || memoryOf(this.#socket) === this.buffer)
  }

  stop() {
    removeListener(this.#socket, 'close', this.#onClose)
  }

  #onClose = () => {
    this.look()
    if (isNode && this.#handle === undefined) return
    if (!isClosed(this.#socket, this.#handle)) return
    this.stop()
    // Another socket may still read into the block. The garbage collector returns it when none has
    // it.
    if (this.#isGiven && !this.#isTaken) return
    giveBack(this.lease)
  }
}

closeOff(Reader)

/** All sockets that share one option, each with its block. */
class Readers {
  #pool
  #size
  #callback
  /** @type {WeakMap<Socket, Reader>} */
  #readers = new WeakMap()
  /**
   * The reader of the socket whose callback has just returned.
   *
   * @type {Reader | typeof SAME | undefined}
   */
  #next

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {number} size
   * @param {import('.').OnReadCallback} callback
   */
  constructor(pool, size, callback) {
    this.#pool = pool
    this.#size = size
    this.#callback = callback
  }

  /** Returns memory for a socket that gets a handle, or whose callback has just returned. */
  nextBuffer() {
    const next = this.#next
    this.#next = undefined
    // Node then goes on with the memory that it has.
    if (next === SAME) return undefined
    return next?.give() ?? allocUnsafeSlow(Math.min(this.#size, FIRST_BYTES))
  }

  /**
   * @param {Socket} socket
   * @param {number} length
   * @param {Uint8Array} bytes that the socket has read into
   */
  read(socket, length, bytes) {
    if (!(socket instanceof Socket)) {
      throw new InvalidArgType('this', 'an instance of Socket', socket)
    }
    if (!isUint8Array(bytes)) {
      throw new InvalidArgType('bytes', 'an instance of Uint8Array', bytes)
    }
    checkInteger('length', length, 0, this.#size)
    let reader = /** @type {Reader | undefined} */ (find(this.#readers, socket))
    reader?.look()
    if (reader === undefined || isOver(reader.lease) || !reader.isCurrent) {
      reader = this.#begin(socket, reader)
    }
    if (reader === undefined) return false
    const { buffer } = reader
    if (bytes !== buffer) {
      if (length > lengthOf(bytes)) {
        // The user has released the block during the read.
        socket.destroy(new AlreadyReleased(cacheOf(this.#pool).name, bytes, 'bytes'))
        this.#next = reader
        return false
      }
      setBytes(buffer, new Bytes(arrayBufferOf(bytes), offsetOf(bytes), length), 0)
    }
    return this.#pass(socket, length, reader)
  }

  /**
   * @param {Socket} socket
   * @param {number} length
   * @param {Reader} reader
   */
  #pass(socket, length, reader) {
    let goesOn = false
    try {
      const buffer = /** @type {import('../../index').PooledBuffer} */ (reader.buffer)
      goesOn = this.#callback.call(socket, length, buffer) !== false
    } catch (error) {
      // After an exception Node asks for no other memory.
      if (!isOver(reader.lease)) throw error
      socket.destroy()
      throwUncaught(error)
    }
    this.#next = this.#after(socket, reader)
    return goesOn
  }

  /**
   * Returns what a socket reads into next. Called only when its callback has returned, because that
   * may have opened another socket with this option.
   *
   * @param {Socket} socket
   * @param {Reader} reader
   */
  #after(socket, reader) {
    if (isNode && !reader.isCurrent) {
      // The socket has connected again, and has memory for that; or it is destroyed.
      return handleOf(socket) === undefined ? undefined : SAME
    }
    // Native code has the address of a released block, and needs another at once.
    const next = isOver(reader.lease) ? this.#begin(socket, reader) : reader
    return next?.isGiven && isNode ? SAME : next
  }

  /**
   * Leases a block for a socket. Destroys the socket where the pool has none.
   *
   * @param {Socket} socket
   * @param {Reader} [last] of the same socket, without a block by now, or with another handle
   */
  #begin(socket, last) {
    // A last reader with another handle still waits for the end of that.
    if (last !== undefined && isOver(last.lease)) last.stop()
    let lease
    try {
      lease = leaseFrom(this.#pool, this.#size)
      const reader = new Reader(socket, lease)
      put(this.#readers, socket, reader)
      reader.listen()
      return reader
    } catch (error) {
      // No socket has the block yet.
      if (lease !== undefined) giveBack(lease)
      socket.destroy(/** @type {Error} */ (error))
      return undefined
    }
  }
}

/**
 * Returns the memory that Node has a socket read into; `undefined` where other code would answer in
 * Node's place.
 *
 * @param {any} socket
 */
function memoryOf(socket) {
  if (BUFFER === undefined || isProxy(socket) || !hasOwn(socket, BUFFER)) return undefined
  return socket[BUFFER]
}

/** @param {Socket} socket that no other code has seen */
function bufferKeyOf(socket) {
  const symbols = getOwnPropertySymbols(socket)
  for (let i = 0; i < symbols.length; i++) {
    if (descriptionOf(symbols[i]) === 'kBuffer') return symbols[i]
  }
  return undefined
}

addEntries(onread)

module.exports = { onread }
