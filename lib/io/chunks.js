'use strict'

/**
 * A file or a stream as an async iterator of pooled Buffers. What it has given is released when it is
 * asked for more.
 */

const { Abort, InvalidArgType } = require('../errors')
const { Lease } = require('../lease')
const { arrayBufferOf } = require('../runtime')
const { slotOf } = require('../tag')
const { checkInteger, checkOptions, checkPool, checkSignal } = require('./checks')
const { FileChunks } = require('./file-chunks')
const { settled } = require('./patience')
const { LARGEST_READ, SourceFile, isPath } = require('./source-file')
const { StreamChunks, sourceOf } = require('./stream-chunks')

/** Larger chunks of a file gain nothing that is worth the memory. */
const FILE_CHUNK_BYTES = 256 * 1024

/** What a stream gives at a time, mostly. */
const STREAM_CHUNK_BYTES = 64 * 1024

const ignore = () => {}

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
  return new Chunks(pool, producerOf(pool, source, chunkSize), signal)
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

class Chunks {
  #pool
  #begin
  #signal
  /**
   * Made when the first chunk is asked for.
   *
   * @type {FileChunks | StreamChunks | undefined}
   */
  #producer
  /** Ends the producer's wait for memory. */
  #waiting = new AbortController()
  /**
   * What was given since it was last asked for more.
   *
   * @type {Lease[]}
   */
  #given = []
  /**
   * The last call of `next`: the following one has its turn after it. Never rejects.
   *
   * @type {Promise<unknown>}
   */
  #last = Promise.resolve()
  /**
   * The call of `next` whose turn it is.
   *
   * @type {{ resolve(result: IteratorResult<Buffer, any>): void, reject(reason: unknown): void } | undefined}
   */
  #pending
  /**
   * What the producer does for it. Never rejects.
   *
   * @type {Promise<unknown>}
   */
  #underWay = Promise.resolve()
  #isOver = false
  /**
   * That everything is let go of.
   *
   * @type {Promise<void> | undefined}
   */
  #end
  /**
   * What `next` is still to tell.
   *
   * @type {Abort | undefined}
   */
  #abort

  /**
   * @param {import('../buffer-pool').BufferPool} pool
   * @param {() => FileChunks | StreamChunks} begin
   * @param {AbortSignal | undefined} signal
   */
  constructor(pool, begin, signal) {
    this.#pool = pool
    this.#begin = begin
    this.#signal = signal
  }

  [Symbol.asyncIterator]() {
    return this
  }

  /** @returns {Promise<IteratorResult<Buffer, any>>} */
  next() {
    this.#releaseGiven()
    const result = this.#last.then(() => this.#advance())
    this.#last = result.catch(ignore)
    return result
  }

  /** @param {any} [value] */
  async return(value) {
    this.#releaseGiven()
    await this.#stop()
    return { done: /** @type {const} */ (true), value: await value }
  }

  /**
   * @param {unknown} error
   * @returns {Promise<IteratorResult<Buffer, any>>}
   */
  async throw(error) {
    this.#releaseGiven()
    await this.#stop()
    throw error
  }

  async [Symbol.asyncDispose]() {
    await this.return()
  }

  /** @returns {Promise<IteratorResult<Buffer, any>>} */
  async #advance() {
    if (!this.#isOver && this.#producer === undefined) this.#start()
    if (this.#isOver) return this.#tellEnd()
    const producer = /** @type {FileChunks | StreamChunks} */ (this.#producer)
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject }
      this.#underWay = producer.next(this.#waiting.signal).then(this.#onChunk, this.#onError)
    })
  }

  #start() {
    try {
      this.#producer = this.#begin()
      if (this.#signal?.aborted) this.#onAbort()
      else this.#signal?.addEventListener('abort', this.#onAbort)
    } catch (error) {
      // A web stream that another reads, or a signal of the user's.
      this.#stop()
      throw error
    }
  }

  /** @param {Buffer | undefined} chunk */
  #onChunk = (chunk) => {
    if (this.#isOver) {
      if (chunk !== undefined) this.#pool.release(chunk)
    } else if (chunk === undefined) {
      this.#stop()
    } else {
      const slot = /** @type {import('../slot').Slot} */ (slotOf(arrayBufferOf(chunk)))
      this.#given.push(new Lease(chunk, slot))
      this.#takePending()?.resolve({ done: false, value: chunk })
    }
  }

  /** @param {unknown} error */
  #onError = (error) => {
    // What comes after the end comes of it.
    if (this.#isOver) return
    const pending = this.#takePending()
    this.#stop().then(() => pending?.reject(error))
  }

  #onAbort = () => {
    this.#abort = new Abort(this.#signal?.reason)
    this.#stop()
  }

  #takePending() {
    const pending = this.#pending
    this.#pending = undefined
    return pending
  }

  #stop() {
    this.#isOver = true
    this.#end ??= this.#letGo()
    return this.#end
  }

  async #letGo() {
    this.#signal?.removeEventListener('abort', this.#onAbort)
    this.#waiting.abort()
    await settled(Promise.all([this.#producer?.stop(), this.#underWay]))
    const pending = this.#takePending()
    if (pending !== undefined) this.#tellEnd().then(pending.resolve, pending.reject)
  }

  /** @returns {Promise<IteratorResult<Buffer, any>>} */
  async #tellEnd() {
    const abort = this.#abort
    this.#abort = undefined
    if (abort !== undefined) throw abort
    return { done: true, value: undefined }
  }

  #releaseGiven() {
    for (const lease of this.#given) {
      try {
        lease.release()
      } catch {
        // The user has transferred it, or marked it as untransferable: it comes back when it is collected.
      }
    }
    this.#given = []
  }
}

module.exports = { chunks }
