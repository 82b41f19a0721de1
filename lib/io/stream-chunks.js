'use strict'

/**
 * A stream's chunks, copied into blocks: what it gives within one turn of the event loop goes into one
 * block, as far as it fits.
 */

const { isAnyArrayBuffer, isUint8Array } = require('node:util').types
const { InvalidArgType, PrematureClose } = require('../errors')
const { wasCutOff, watchReset } = require('./http2-reset')

/**
 * @typedef {object} Source
 * @property {() => Promise<IteratorResult<unknown>>} next
 * @property {() => Promise<unknown>} stop also while `next` is under way; never rejects
 * @property {BufferEncoding} encoding of its strings
 */

const ignore = () => {}

/** What a turn without another piece gives. */
const NOTHING_YET = Symbol('nothing yet')

class StreamChunks {
  #pool
  #source
  #blockBytes
  /**
   * A piece on its way.
   *
   * @type {Promise<IteratorResult<unknown>> | undefined}
   */
  #coming
  /**
   * What did not fit into the last block.
   *
   * @type {Uint8Array | undefined}
   */
  #rest

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
   * The next chunk; `undefined` after the last.
   *
   * @param {AbortSignal} signal ends the wait for memory
   */
  async next(signal) {
    const first = this.#rest ?? (await this.#take())
    if (first === undefined) return undefined
    this.#rest = undefined
    const block = await this.#pool.acquire(this.#blockBytes, { signal })
    try {
      const length = await this.#fill(block, first)
      return length === block.length ? block : block.subarray(0, length)
    } catch (error) {
      this.#pool.release(block)
      throw error
    }
  }

  async stop() {
    this.#coming?.catch(ignore)
    await this.#source.stop()
  }

  /**
   * Copies what there is into a block. Returns how much.
   *
   * @param {Buffer} block
   * @param {Uint8Array} first
   */
  async #fill(block, first) {
    let length = 0
    /** @type {Uint8Array | undefined} */
    let piece = first
    while (piece !== undefined) {
      const room = block.length - length
      if (piece.length >= room) {
        block.set(piece.subarray(0, room), length)
        if (piece.length > room) this.#rest = piece.subarray(room)
        return block.length
      }
      block.set(piece, length)
      length += piece.length
      piece = await this.#takeThisTurn()
    }
    return length
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
      if (bytes.length > 0) return bytes
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
 * @param {unknown} value
 * @param {BufferEncoding} encoding
 * @returns {Uint8Array}
 */
function toBytes(value, encoding) {
  if (typeof value === 'string') return Buffer.from(value, encoding)
  if (isUint8Array(value)) return value
  if (ArrayBuffer.isView(value)) {
    return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
  }
  if (isAnyArrayBuffer(value)) return new Uint8Array(value)
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
    encoding: 'utf8'
  }
}

/**
 * @param {any} iterable
 * @returns {Source}
 */
function fromIterable(iterable) {
  const unwatch = watchReset(iterable)
  const iterator = iterable[Symbol.asyncIterator]()
  let hasEnded = false
  return {
    next: async () => {
      const result = await iterator.next()
      hasEnded = Boolean(result.done)
      // An http2 stream ends then, too, like one that is whole.
      if (hasEnded && wasCutOff(iterable)) throw new PrematureClose()
      return result
    },
    stop: async () => {
      unwatch()
      // As its own iterator does, but at once: that would wait for the piece that it was asked for.
      if (!hasEnded && typeof iterable.destroy === 'function') iterable.destroy()
      try {
        await iterator.return?.()
      } catch {
        // It was to end.
      }
    },
    encoding: iterable.readableEncoding ?? 'utf8'
  }
}

module.exports = { StreamChunks, sourceOf }
