'use strict'

/**
 * Ends a writable with a pooled Buffer, and releases that when nothing reads its memory any more.
 *
 * | writable | nothing reads the memory any more when |
 * |---|---|
 * | an HTTP/1 message | neither it nor its connection has anything to send: see `sending.js` |
 * | a socket, a file stream, an http2 stream over TLS | it calls back for the write |
 *
 * Any other writable gets a copy: `writable-kinds.js` has the reasons.
 */

const { Buffer } = require('node:buffer')
const { Socket } = require('node:net')
const { isUint8Array } = require('node:util').types
const { cacheOf, owns, release } = require('../pool/buffer-pool')
const { AlreadyReleased, InvalidArgType, InvalidArgValue, NotPooled } = require('../pool/errors')
const { Lease, isOver } = require('../pool/lease')
const {
  allocUnsafeSlow,
  arrayBufferOf,
  lengthOf: lengthOfBytes,
  setBytes,
  uncurry
} = require('../runtime/intrinsics')
const { slotOf } = require('../cache/tag')
const { kindOf } = require('./writable-kinds')
const { checkPool, checkWritable } = require('./checks')
const { watchReset } = require('./http2-reset')
const { detaches, giveBack } = require('./leases')
const { quietly } = require('./operation')
const { Sending } = require('./sending')
const {
  endMessage: endByNode,
  isDestroyed,
  isWritable,
  lengthOf,
  maySendYet,
  socketOf,
  writeStream
} = require('./stream-state')

/** Ends a writable that takes no bytes any more. */
const NOTHING = Buffer.alloc(0)

/** ArrayBuffers of blocks that a writable was lent. */
const lentMemory = new WeakSet()

// As they were when cistern was loaded. The first of two writables that have a Buffer would release
// it.
const has = uncurry(WeakSet.prototype.has)
const add = uncurry(WeakSet.prototype.add)
const remove = uncurry(WeakSet.prototype.delete)

/**
 * @template Res
 * @param {import('../pool/buffer-pool').BufferPool} pool
 * @param {Res} res
 * @param {Buffer} buffer
 * @returns {Res}
 */
function end(pool, res, buffer) {
  checkPool(pool)
  checkWritable('res', res)
  checkLeased(pool, buffer)
  const lent = new LentBuffer(pool, buffer)
  let kind
  try {
    // Node calls back for a corked message in another order than it writes.
    kind = /** @type {any} */ (res).writableCorked > 0 ? undefined : kindOf(res)
    watchReset(res)
    // The response is the user's: its getters may have released the Buffer.
    if (lent.isOver) throw new AlreadyReleased(cacheOf(pool).name, buffer, 'buffer')
  } catch (error) {
    lent.complete()
    throw error
  }
  endWith[kind ?? 'other'](res, buffer, lent)
  return res
}

/** A Buffer that a writable was lent. */
class LentBuffer {
  #pool
  #arrayBuffer
  #lease
  #isComplete = false

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {Buffer} buffer leased
   */
  constructor(pool, buffer) {
    const arrayBuffer = arrayBufferOf(buffer)
    if (has(lentMemory, arrayBuffer)) {
      throw new InvalidArgValue('buffer', 'must not be on its way out already', buffer)
    }
    const slot = slotOf(arrayBuffer)
    this.#pool = pool
    this.#arrayBuffer = arrayBuffer
    // A Buffer that came from another thread has none.
    this.#lease = slot && new Lease(buffer, slot)
    add(lentMemory, arrayBuffer)
  }

  /** Whether other code has released the Buffer. */
  get isOver() {
    if (this.#lease !== undefined) return isOver(this.#lease)
    return !owns(this.#pool, this.#arrayBuffer)
  }

  /** Releases the Buffer. Only the first call of this or `settle` does anything. */
  complete = () => {
    if (!this.#end()) return
    if (this.#lease !== undefined) return giveBack(this.#lease)
    // Code that was shown the ArrayBuffer may have marked it as untransferable: see `giveBack`.
    quietly(() => {
      if (owns(this.#pool, this.#arrayBuffer)) release(this.#pool, this.#arrayBuffer)
    })
  }

  /**
   * Releases the Buffer. One that may still be sent is left to the garbage collector, unless
   * release detaches: otherwise the next owner's bytes would be sent.
   *
   * @param {boolean} isFree whether it will certainly not be sent any more
   */
  settle = (isFree) => {
    if (isFree || detaches(this.#pool)) this.complete()
    else this.#end()
  }

  /** Returns false where this has ended before. */
  #end() {
    if (this.#isComplete) return false
    this.#isComplete = true
    remove(lentMemory, this.#arrayBuffer)
    return true
  }
}

/**
 * @param {any} res
 * @param {Buffer} buffer
 * @param {LentBuffer} lent
 */
function endWithCopy(res, buffer, lent) {
  const copy = allocUnsafeSlow(lengthOfBytes(buffer))
  setBytes(copy, buffer, 0)
  lent.complete()
  res.end(copy)
}

/**
 * @param {any} message
 * @param {Buffer} buffer
 * @param {LentBuffer} lent
 */
function endMessage(message, buffer, { complete, settle }) {
  const socket = socketOf(message)
  if (message.finished || message.destroyed || (socket && isDestroyed(socket))) {
    endUntaken(message, complete)
    return
  }
  let sending
  try {
    sending = new Sending(message, settle)
    endByNode(message, buffer)
    sending.begin()
  } catch (error) {
    // Node may have taken the Buffer all the same, and may still send it.
    if (sending === undefined) complete()
    else sending.look()
    throw error
  }
}

/**
 * Ends a stream. The stream calls back for the write when it is done with that, and for `end` when
 * it has finished or is closed.
 *
 * @param {import('node:stream').Writable} stream
 * @param {Buffer} buffer
 * @param {LentBuffer} lent
 */
function endStream(stream, buffer, { complete, settle }) {
  if (!isWritable(stream)) {
    endUntaken(stream, complete)
    return
  }
  let isWritten = false
  let hasEnded = false
  try {
    writeStream(stream, buffer, (/** @type {Error | null} */ error) => {
      isWritten = true
      if (error) settle(!(stream instanceof Socket && maySendYet(stream)))
      else if (hasEnded) complete()
    })
    stream.end(() => {
      hasEnded = true
      if (isWritten) complete()
    })
  } catch (error) {
    // The stream may have taken the Buffer all the same. Then it calls back for the write alone.
    hasEnded = true
    if (isWritten || lengthOf(stream) === 0) complete()
    throw error
  }
}

/**
 * Ends an http2 response. It emits 'finish' whenever its stream is closed, but calls back for the
 * write only when the stream is done with that.
 *
 * @param {import('node:http2').Http2ServerResponse} res
 * @param {Buffer} buffer
 * @param {LentBuffer} lent
 */
function endHttp2Response(res, buffer, { complete }) {
  const { stream } = res
  if (res.writableEnded || !isWritable(stream)) {
    endUntaken(res, complete)
    return
  }
  try {
    res.write(buffer, complete)
    res.end()
  } catch (error) {
    // The stream may have taken the Buffer all the same.
    if (lengthOf(stream) === 0) complete()
    throw error
  }
}

/**
 * Ends a writable that takes no Buffer any more. Node reports that as for any other call of `end`.
 *
 * @param {any} res
 * @param {() => void} complete
 */
function endUntaken(res, complete) {
  complete()
  res.end(NOTHING)
}

/**
 * Ends a writable, by its kind.
 *
 * @type {Record<import('./writable-kinds').Kind | 'other',
 *   (res: any, buffer: Buffer, lent: LentBuffer) => void>}
 */
const endWith = {
  message: endMessage,
  stream: endStream,
  'http2 stream': endStream,
  'http2 response': endHttp2Response,
  other: endWithCopy
}

/**
 * @param {import('../pool/buffer-pool').BufferPool} pool
 * @param {unknown} buffer
 */
function checkLeased(pool, buffer) {
  if (!isUint8Array(buffer)) {
    throw new InvalidArgType('buffer', 'an instance of Buffer or Uint8Array', buffer)
  }
  if (pool.owns(buffer)) return
  const { name } = pool.stats()
  const isBack = slotOf(arrayBufferOf(buffer))?.pool === pool
  throw new (isBack ? AlreadyReleased : NotPooled)(name, buffer, 'buffer')
}

module.exports = { end }
