'use strict'

/**
 * A file or a stream as an async iterator of pooled Buffers. Each call of `next` releases the
 * Buffer that the last one gave.
 */

const { addEntries } = require('../cache/call-site')
const { BodyTooLarge, InvalidArgType } = require('../pool/errors')
const { uncurry } = require('../runtime/intrinsics')
const { BY_HEADER, announcedBy } = require('./body-state')
const { checkInteger, checkLimit, checkOptions, checkPool, checkSignal } = require('./checks')
const { discardBody } = require('./discard-body')
const { FileChunks } = require('./file-chunks')
const { isPath } = require('./file-handle')
const { Iteration } = require('./iteration')
const { LARGEST_READ, SourceFile } = require('./source-file')
const { StreamChunks } = require('./stream-chunks')
const { sourceOf } = require('./stream-source')

/**
 * The default of `chunkSize` for files: 256 KiB. Larger chunks gain nothing that is worth the
 * memory.
 */
const FILE_CHUNK_BYTES = 256 * 1024

/** @typedef {import('./operation').Operation<void>} Operation */

/**
 * @param {import('../pool/buffer-pool').BufferPool} pool
 * @param {any} source
 * @param {import('.').ChunksOptions} [options]
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
 * Returns a function that begins to produce the chunks.
 *
 * @param {import('../pool/buffer-pool').BufferPool} pool
 * @param {any} source
 * @param {number | undefined} chunkSize
 * @param {number} limit
 * @returns {(operation: Operation) => FileChunks | StreamChunks}
 */
function producerOf(pool, source, chunkSize, limit) {
  if (isPath(source)) {
    const size = chunkSize ?? FILE_CHUNK_BYTES
    return (operation) => new FileChunks(pool, operation, new SourceFile(source), size)
  }
  const begin = sourceOf(source)
  if (begin !== undefined) {
    return (operation) => {
      if (limit !== Infinity) checkAnnounced(source, limit)
      return new StreamChunks(pool, operation, begin, chunkSize)
    }
  }
  const expected = 'a string, a Buffer, a URL, a FileHandle, a stream or an async iterable'
  throw new InvalidArgType('source', expected, source)
}

/**
 * Throws for a body that announces more than the limit, before anything of it is read.
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
 * Ends the iterations whose iterators were dropped. An iteration does not refer to its iterator. So
 * the garbage collector finds that one even while the signal, the stream or the pool is alive.
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
