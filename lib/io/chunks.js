'use strict'

/**
 * A file or a stream as an async iterator of pooled Buffers. What it has given is released when it is
 * asked for more.
 */

const { addEntries } = require('../call-site')
const { InvalidArgType } = require('../errors')
const { uncurry } = require('../runtime')
const { checkInteger, checkOptions, checkPool, checkSignal } = require('./checks')
const { FileChunks } = require('./file-chunks')
const { Iteration } = require('./iteration')
const { LARGEST_READ, SourceFile, isPath } = require('./source-file')
const { StreamChunks, sourceOf } = require('./stream-chunks')

/** Larger chunks of a file gain nothing that is worth the memory. */
const FILE_CHUNK_BYTES = 256 * 1024

/** What a stream gives at a time, mostly. */
const STREAM_CHUNK_BYTES = 64 * 1024

/**
 * @typedef {object} ChunksOptions
 * @property {number} [chunkSize] the most bytes of a chunk; by default 256 KiB of a file, 64 KiB of a stream
 * @property {AbortSignal} [signal]
 */

/**
 * @param {import('../buffer-pool').BufferPool} pool
 * @param {any} source
 * @param {ChunksOptions} [options]
 */
function chunks(pool, source, options = {}) {
  checkPool(pool)
  checkOptions(options, ['chunkSize', 'signal'])
  const { chunkSize, signal } = options
  if (chunkSize !== undefined) checkInteger('options.chunkSize', chunkSize, 1, LARGEST_READ)
  checkSignal(signal)
  return new Chunks(new Iteration(pool, producerOf(pool, source, chunkSize), signal))
}

/**
 * What gives the chunks, once it is begun.
 *
 * @param {import('../buffer-pool').BufferPool} pool
 * @param {any} source
 * @param {number | undefined} chunkSize
 * @returns {() => FileChunks | StreamChunks}
 */
function producerOf(pool, source, chunkSize) {
  if (isPath(source)) {
    return () => new FileChunks(pool, new SourceFile(source), chunkSize ?? FILE_CHUNK_BYTES)
  }
  const begin = sourceOf(source)
  if (begin !== undefined) {
    return () => new StreamChunks(pool, begin(), chunkSize ?? STREAM_CHUNK_BYTES)
  }
  const expected = 'a string, a Buffer, a URL, a FileHandle, a stream or an async iterable'
  throw new InvalidArgType('source', expected, source)
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
