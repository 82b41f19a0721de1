'use strict'

/** A file's chunks, each in a block of its own. While one is used, the next is read. */

const { Ahead } = require('./ahead')
const { leaseAtOnce } = require('./lease-at-once')

const ignore = () => {}

class FileChunks {
  #pool
  #file
  #blockBytes
  #isOpen = false
  #isStopped = false
  /** @type {Ahead | undefined} */
  #ahead
  /** What the file does now: it can't be closed before. @type {Promise<unknown>} */
  #underWay = Promise.resolve()

  /**
   * @param {import('../buffer-pool').BufferPool} pool
   * @param {import('./source-file').SourceFile} file
   * @param {number} chunkSize
   */
  constructor(pool, file, chunkSize) {
    this.#pool = pool
    this.#file = file
    this.#blockBytes = chunkSize
  }

  /**
   * The next chunk; `undefined` after the last.
   *
   * @param {AbortSignal} signal ends the wait for memory
   */
  async next(signal) {
    if (!this.#isOpen) await this.#open()
    const chunk = await (this.#takeAhead()?.claim(signal) ?? this.#acquireAndRead(signal))
    // What did not fill its block is a file's last chunk, or a FIFO's, which may have no more for long.
    if (chunk?.length === this.#blockBytes) this.#readAhead()
    return chunk
  }

  /** Closes the file, once it is done with what it has. */
  async stop() {
    this.#isStopped = true
    await this.#underWay
    await this.#takeAhead()?.drop()
    await new Promise((resolve) => this.#file.close(() => resolve(undefined)))
  }

  #open() {
    this.#isOpen = true
    return this.#track(
      new Promise((resolve, reject) => {
        this.#file.open((error) => (error ? reject(error) : resolve(undefined)))
      })
    )
  }

  #takeAhead() {
    const ahead = this.#ahead
    this.#ahead = undefined
    return ahead
  }

  #readAhead() {
    if (this.#isStopped || this.#file.left === 0) return
    const block = leaseAtOnce(this.#pool, this.#blockBytes)
    if (block !== undefined) this.#ahead = new Ahead(this.#pool, this.#read(block))
  }

  /** @param {AbortSignal} signal */
  async #acquireAndRead(signal) {
    if (this.#file.left === 0) return undefined
    const block = await this.#pool.acquire(this.#blockBytes, { signal })
    if (!this.#isStopped) return this.#read(block)
    this.#pool.release(block)
    return undefined
  }

  /**
   * @param {Buffer} block
   * @returns {Promise<Buffer | undefined>}
   */
  #read(block) {
    return this.#track(
      new Promise((resolve, reject) => {
        this.#file.read(block, (error, bytesRead) => {
          if (error || bytesRead === 0) this.#pool.release(block)
          if (error) reject(error)
          else if (bytesRead === 0) resolve(undefined)
          else resolve(bytesRead === block.length ? block : block.subarray(0, bytesRead))
        })
      })
    )
  }

  /**
   * @template Value
   * @param {Promise<Value>} operation
   */
  #track(operation) {
    this.#underWay = operation.catch(ignore)
    return operation
  }
}

module.exports = { FileChunks }
