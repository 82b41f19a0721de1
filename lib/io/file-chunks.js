'use strict'

/** A file's chunks, each in a block of its own. While one is used, the next is read. */

const { requestLease } = require('../pool/buffer-pool')
const { bufferOf, endLease } = require('../pool/lease')
const { ReadAhead } = require('./read-ahead')
const { tryLease } = require('./try-lease')

/** @typedef {import('./read-ahead').Consumer} Consumer */

class FileChunks {
  #pool
  #file
  #blockBytes
  #isOpen = false
  #isStopped = false
  /** Whether the file is being opened, or read: it can't be closed before that has ended. */
  #isBusy = false
  /** Follows what the file does now. */
  #onQuiet = () => {}
  /** Ends the wait for memory. */
  #cancel = () => {}
  /** @type {ReadAhead | undefined} */
  #ahead

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {import('./source-file').SourceFile} file
   * @param {number} chunkSize
   */
  constructor(pool, file, chunkSize) {
    this.#pool = pool
    this.#file = file
    this.#blockBytes = chunkSize
  }

  /**
   * Calls the consumer once, unless it is stopped first.
   *
   * @param {Consumer} consumer
   */
  next(consumer) {
    if (this.#isOpen) {
      this.#produce(consumer)
      return
    }
    this.#isOpen = true
    this.#isBusy = true
    this.#file.open((error) => {
      this.#rest()
      if (error) consumer.onError(error)
      else this.#produce(consumer)
    })
  }

  /**
   * Closes the file, once it is done with what it has.
   *
   * @param {() => void} callback
   */
  stop(callback) {
    this.#isStopped = true
    this.#cancel()
    const ahead = this.#takeAhead()
    this.#onQuiet = () => {
      ahead?.drop()
      this.#file.close(callback)
    }
    if (!this.#isBusy) this.#onQuiet()
  }

  /** @param {() => void} callback */
  discard(callback) {
    this.stop(callback)
  }

  /** As `stop`: a file that it has opened is nobody else's. */
  abandon() {
    this.stop(() => {})
  }

  /** @param {Consumer} consumer */
  #produce(consumer) {
    const { onError } = consumer
    const onChunk = (
      /** @type {import('../pool/lease').Lease | undefined} */ lease,
      /** @type {number} */ length
    ) => {
      // A chunk that did not fill its block is a file's last, or a FIFO's, which may have no more for long.
      if (lease !== undefined && length === this.#blockBytes) this.#readAhead()
      if (!this.#isStopped) consumer.onChunk(lease, length)
      else if (lease !== undefined) endLease(lease)
    }
    const ahead = this.#takeAhead()
    if (ahead !== undefined) ahead.claim({ onChunk, onError }, this.#request)
    else if (this.#file.left === 0) onChunk(undefined, 0)
    else
      this.#request(this.#blockBytes, (lease) => this.#fill(lease, { onChunk, onError }), onError)
  }

  /**
   * @param {import('../pool/lease').Lease} lease
   * @param {Consumer} consumer
   */
  #fill(lease, { onChunk, onError }) {
    if (this.#isStopped) {
      endLease(lease)
      return
    }
    this.#read(lease, (error, bytesRead) => {
      if (!error && bytesRead > 0) {
        onChunk(lease, bytesRead)
        return
      }
      endLease(lease)
      if (error) onError(error)
      else onChunk(undefined, 0)
    })
  }

  #readAhead() {
    if (this.#isStopped || this.#file.left === 0) return
    const lease = tryLease(this.#pool, this.#blockBytes)
    if (lease === undefined) return
    // To lease may have run other code, which has stopped it.
    if (this.#isStopped) {
      endLease(lease)
      return
    }
    const ahead = new ReadAhead(this.#pool, lease)
    this.#ahead = ahead
    this.#read(lease, (error, bytesRead) => ahead.onRead(error, bytesRead))
  }

  #takeAhead() {
    const ahead = this.#ahead
    this.#ahead = undefined
    return ahead
  }

  /** @type {import('./read-ahead').Request} */
  #request = (size, onLease, onError) => {
    const cancel = requestLease(this.#pool, size, onLease, onError)
    this.#cancel = cancel
    // Whoever is told that the pool is exhausted may have stopped it.
    if (this.#isStopped) cancel()
  }

  /**
   * @param {import('../pool/lease').Lease} lease
   * @param {import('./source-file').OnRead} callback
   */
  #read(lease, callback) {
    this.#isBusy = true
    this.#file.read(bufferOf(lease), (error, bytesRead) => {
      this.#rest()
      callback(error, bytesRead)
    })
  }

  /** Notes that the file is done with what it had. */
  #rest() {
    this.#isBusy = false
    this.#onQuiet()
  }
}

module.exports = { FileChunks }
