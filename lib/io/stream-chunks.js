'use strict'

/**
 * A stream's chunks, copied into blocks: what it gives within one turn of the event loop goes into one
 * block, as far as it fits.
 */

const { Buffer } = require('node:buffer')
const { Readable } = require('node:stream')
const { isAnyArrayBuffer } = require('node:util').types
const { rackOf, requestLease } = require('../buffer-pool')
const { AlreadyReleased, InvalidArgType, InvalidArgValue, PrematureClose } = require('../errors')
const { bufferOf, endLease, isOver } = require('../lease')
const { OwnPromise, fixedViewOf, lengthOf, partOf, setBytes, uncurry } = require('../runtime')
const { setImmediate } = require('../timers')
const { wasCutOff, watchReset } = require('./http2-reset')

/**
 * @typedef {object} Source
 * @property {() => Promise<IteratorResult<unknown>>} next
 * @property {() => Promise<unknown>} stop also while `next` is under way
 * @property {() => Promise<unknown>} release reads no more, and leaves the stream as it is
 * @property {BufferEncoding} encoding of its strings
 *
 * @typedef {object} Piece some bytes of the source's memory, which may become shorter at any time
 * @property {Uint8Array} bytes
 * @property {number} length
 */

const { isView } = ArrayBuffer
/** By what Node iterates: that ends the stream when it is left. */
const iterateAndDestroy = Readable.prototype[Symbol.asyncIterator]
const iterate = uncurry(/** @type {any} */ (Readable.prototype).iterator)

const ignore = () => {}

/** What a turn without another piece gives. */
const NOTHING_YET = Symbol('nothing yet')

class StreamChunks {
  #pool
  #source
  #blockBytes
  #isStopped = false
  /**
   * A piece on its way.
   *
   * @type {Promise<IteratorResult<unknown>> | undefined}
   */
  #coming
  /**
   * What did not fit into the last block.
   *
   * @type {Piece | undefined}
   */
  #rest
  /**
   * The block that is being filled.
   *
   * @type {import('../lease').Lease | undefined}
   */
  #lease
  /** Ends the wait for memory. */
  #cancel = () => {}
  /**
   * The last call of `next`. Never rejects.
   *
   * @type {Promise<void> | undefined}
   */
  #running

  /**
   * @param {import('../buffer-pool').BufferPool} pool
   * @param {Source} source
   * @param {number} chunkSize
   */
  constructor(pool, source, chunkSize) {
    this.#pool = pool
    this.#source = source
    this.#blockBytes = chunkSize
  }

  /**
   * Calls the consumer once, unless it is stopped first.
   *
   * @param {import('./ahead').Consumer} consumer
   */
  next(consumer) {
    this.#running = this.#run(consumer)
  }

  /**
   * Ends the stream.
   *
   * @param {() => void} callback
   */
  async stop(callback) {
    this.#giveUp()
    try {
      await this.#source.stop()
      await this.#running
    } catch {
      // It was to end.
    }
    callback()
  }

  /** Reads no more. The stream is its user's. */
  async abandon() {
    this.#giveUp()
    try {
      await this.#source.release()
    } catch {
      // Nobody waits for it.
    }
  }

  #giveUp() {
    this.#isStopped = true
    this.#rest = undefined
    this.#cancel()
    forget(this.#coming)
  }

  /** @param {import('./ahead').Consumer} consumer */
  async #run({ onChunk, onError }) {
    try {
      const length = await this.#produce()
      const lease = this.#lease
      this.#lease = undefined
      if (!this.#isStopped) onChunk(lease, length)
      else if (lease !== undefined) endLease(lease)
    } catch (error) {
      this.#endLease()
      onError(error)
    }
  }

  #endLease() {
    const lease = this.#lease
    this.#lease = undefined
    if (lease !== undefined) endLease(lease)
  }

  /**
   * Fills a block; leases none at the end of the stream.
   *
   * @returns {Promise<number>} how much of it
   */
  async #produce() {
    const first = this.#rest ?? (await this.#take())
    if (first === undefined || this.#isStopped) return 0
    this.#rest = undefined
    await this.#acquire()
    if (this.#isStopped) return 0
    return this.#fill(first)
  }

  /** Leases a block. Its promise doesn't tell which: other code may see that. */
  #acquire() {
    return new OwnPromise((resolve, reject) => {
      const onLease = (/** @type {import('../lease').Lease} */ lease) => {
        this.#lease = lease
        resolve(undefined)
        if (this.#isStopped) this.#endLease()
      }
      const cancel = requestLease(this.#pool, this.#blockBytes, onLease, reject)
      this.#cancel = () => {
        cancel()
        resolve(undefined)
      }
      // Whoever is told that the pool is exhausted may have stopped it.
      if (this.#isStopped) this.#cancel()
    })
  }

  /**
   * Copies what there is into the block. Returns how much.
   *
   * @param {Piece} first
   */
  async #fill(first) {
    const size = this.#blockBytes
    let length = 0
    /** @type {Piece | undefined} */
    let piece = first
    while (piece !== undefined && !this.#isStopped) {
      const room = size - length
      if (piece.length >= room) {
        this.#put(piece, room, length)
        if (piece.length > room) {
          this.#rest = {
            bytes: partOf(piece.bytes, room, piece.length - room),
            length: piece.length - room
          }
        }
        return size
      }
      this.#put(piece, piece.length, length)
      length += piece.length
      piece = await this.#takeThisTurn()
    }
    return length
  }

  /**
   * @param {Piece} piece
   * @param {number} count of its first bytes
   * @param {number} at where in the block they go
   */
  #put({ bytes, length }, count, at) {
    if (lengthOf(bytes) !== length) {
      throw new InvalidArgValue('chunk', `must keep its ${length} bytes meanwhile`, bytes)
    }
    const lease = this.#lease
    // Other code has run since the block was leased.
    if (lease === undefined || isOver(lease)) {
      throw new AlreadyReleased(rackOf(this.#pool).name, undefined, 'chunk')
    }
    setBytes(bufferOf(lease), partOf(bytes, 0, count), at)
  }

  /** The next piece that is not empty; `undefined` at the end. */
  async #take() {
    for (;;) {
      this.#coming ??= this.#source.next()
      const { done, value } = await this.#coming
      // At the end it stays, to say so again.
      if (done) return undefined
      this.#coming = undefined
      const bytes = toBytes(value, this.#source.encoding)
      const length = lengthOf(bytes)
      if (length > 0) return { bytes, length }
    }
  }

  /** The next piece; `undefined` at the end, or if none comes in this turn of the event loop. */
  async #takeThisTurn() {
    this.#coming ??= this.#source.next()
    const turn = new Promise((resolve) => setImmediate(resolve, NOTHING_YET))
    const isThere = (await Promise.race([this.#coming, turn])) !== NOTHING_YET
    return isThere ? this.#take() : undefined
  }
}

/**
 * Has nobody told of what a promise of the user's will be rejected with.
 *
 * @param {Promise<unknown> | undefined} promise
 */
async function forget(promise) {
  try {
    await promise
  } catch {
    // It was to end.
  }
}

/**
 * @param {unknown} value
 * @param {BufferEncoding} encoding
 * @returns {Uint8Array} of a length that stays
 */
function toBytes(value, encoding) {
  if (typeof value === 'string') return fixedViewOf(Buffer.from(value, encoding))
  if (isView(value) || isAnyArrayBuffer(value)) return fixedViewOf(value)
  throw new InvalidArgType('chunk', 'a string, an ArrayBuffer or a view of one', value)
}

/**
 * What gives the pieces: a Readable, a web stream or any other async iterable; `undefined` for what is none.
 *
 * @param {any} stream
 * @returns {(() => Source) | undefined} begins
 */
function sourceOf(stream) {
  if (typeof stream?.getReader === 'function') return () => fromWeb(stream)
  if (typeof stream?.[Symbol.asyncIterator] === 'function') return () => fromIterable(stream)
  return undefined
}

/**
 * @param {import('node:stream/web').ReadableStream} stream
 * @returns {Source}
 */
function fromWeb(stream) {
  const reader = stream.getReader()
  return {
    next: () => /** @type {Promise<any>} */ (reader.read()),
    stop: async () => {
      await reader.cancel().catch(ignore)
      reader.releaseLock()
    },
    release: async () => reader.releaseLock(),
    encoding: 'utf8'
  }
}

/**
 * @param {any} iterable
 * @returns {Source}
 */
function fromIterable(iterable) {
  const isOurs = readsByNode(iterable)
  const iterator = isOurs
    ? iterate(iterable, { destroyOnReturn: false })
    : iterable[Symbol.asyncIterator]()
  const unwatch = watchReset(iterable)
  let hasEnded = false
  const destroy = () => {
    if (typeof iterable.destroy === 'function') iterable.destroy()
  }
  const leave = async () => {
    await iterator.return?.()
  }
  return {
    next: async () => {
      const result = await iterator.next()
      hasEnded = Boolean(result.done)
      // An http2 stream ends then, too, like one that is whole.
      const isCutOff = hasEnded && wasCutOff(iterable)
      // As its own iterator does.
      if (hasEnded && isOurs && iterable._readableState?.autoDestroy) destroy()
      if (isCutOff) throw new PrematureClose()
      return result
    },
    stop: async () => {
      unwatch()
      // As its own iterator does, but at once: that would wait for the piece that it was asked for.
      if (!hasEnded) destroy()
      await leave()
    },
    // A generator of the user's goes on where it was.
    release: async () => {
      unwatch()
      if (isOurs) await leave()
    },
    encoding: iterable.readableEncoding ?? 'utf8'
  }
}

/**
 * Whether a stream is read by Node's own iterator, which can let go of it without ending it.
 *
 * @param {any} stream
 */
function readsByNode(stream) {
  return stream instanceof Readable && stream[Symbol.asyncIterator] === iterateAndDestroy
}

module.exports = { StreamChunks, sourceOf }
