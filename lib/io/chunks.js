'use strict'

/**
 * A file or a stream as an async iterator of pooled Buffers. What it has given is released when it is
 * asked for more.
 */

const { addEntries } = require('../cache/call-site')
const { BodyTooLarge, InvalidArgType } = require('../pool/errors')
const { uncurry } = require('../runtime/intrinsics')
const { BY_HEADER, announcedBy } = require('./announced')
const { checkInteger, checkLimit, checkOptions, checkPool, checkSignal } = require('./checks')
const { discardBody } = require('./discard-body')
const { FileChunks } = require('./file-chunks')
const { Iteration } = require('./iteration')
const { LARGEST_READ, SourceFile, isPath } = require('./source-file')
const { StreamChunks } = require('./stream-chunks')
const { sourceOf } = require('./stream-source')

/** Larger chunks of a file gain nothing that is worth the memory. */
const FILE_CHUNK_BYTES = 256 * 1024

/**
 * @typedef {object} ChunksOptions
 * @property {number} [chunkSize] the most bytes of a chunk; by default 256 KiB of a file, 64 to 256 KiB of a stream
 * @property {number} [limit] the most bytes in all; as many as come by default
 * @property {AbortSignal} [signal]
 */

/**
 * @param {import('../pool/buffer-pool').BufferPool} pool
 * @param {any} source
 * @param {ChunksOptions} [options]
 */
function chunks(pool, source, options = {}) {
  checkPool(pool)
  checkOptions(options, ['chunkSize', 'limit', 'signal'])
  const { chunkSize, limit = Infinity, signal } = options
  if (chunkSize !== undefined) checkInteger('options.chunkSize', chunkSize, 1, LARGEST_READ)
  checkLimit('options.limit', limit)
  checkSignal(signal)
  const begin = producerOf(pool, source, chunkSize, limit)
  return new Chunks(new Iteration(pool, begin, limit, signal))
}

/**
 * What gives the chunks, once it is begun.
 *
 * @param {import('../pool/buffer-pool').BufferPool} pool
 * @param {any} source
 * @param {number | undefined} chunkSize
 * @param {number} limit
 * @returns {() => FileChunks | StreamChunks}
 */
function producerOf(pool, source, chunkSize, limit) {
  if (isPath(source)) {
    return () => new FileChunks(pool, new SourceFile(source), chunkSize ?? FILE_CHUNK_BYTES)
  }
  const begin = sourceOf(source)
  if (begin !== undefined) {
    return () => {
      if (limit !== Infinity) checkAnnounced(source, limit)
      return new StreamChunks(pool, begin, chunkSize)
    }
  }
  const expected = 'a string, a Buffer, a URL, a FileHandle, a stream or an async iterable'
  throw new InvalidArgType('source', expected, source)
}

/**
 * Refuses a body that announces more than the limit, before anything of it is read.
 *
 * @param {any} source
 * @param {number} limit
 */
function checkAnnounced(source, limit) {
  const announced = announcedBy(source)
  if (announced === undefined || announced <= limit) return
  discardBody(source, false)
  throw new BodyTooLarge(limit, announced, BY_HEADER, 'source')
}

/**
 * Iterators that were dropped. The iterations behind them don't know them, so that the garbage collector finds
 * them, whoever has the signal, the stream or the pool.
 *
 * @type {FinalizationRegistry<import('./iteration').Hold>}
 */
const dropped = new FinalizationRegistry((hold) => hold.abandon())
const register = uncurry(FinalizationRegistry.prototype.register)

class Chunks {
  #iteration

  /** @param {Iteration} iteration */
  constructor(iteration) {
    this.#iteration = iteration
    register(dropped, this, iteration.hold)
  }

  [Symbol.asyncIterator]() {
    return this
  }

  /** @returns {Promise<IteratorResult<Buffer, any>>} */
  next() {
    return this.#iteration.next()
  }

  /** @param {any} [value] */
  async return(value) {
    await this.#iteration.end()
    return { done: /** @type {const} */ (true), value: await value }
  }

  /**
   * @param {unknown} error
   * @returns {Promise<IteratorResult<Buffer, any>>}
   */
  async throw(error) {
    await this.#iteration.end()
    throw error
  }

  async [Symbol.asyncDispose]() {
    await this.#iteration.end()
  }
}

addEntries(Chunks.prototype.next)

module.exports = { chunks }
