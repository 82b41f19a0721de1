'use strict'

/** A file's chunks, each in a block of its own. While the user has one, the next is read. */

const { bufferOf, endLease } = require('../pool/lease')
const { tryLease } = require('./leases')
const { ReadAhead } = require('./read-ahead')

/**
 * @typedef {import('../pool/lease').Lease} Lease
 * @typedef {import('./read-ahead').Consumer} Consumer
 */

class FileChunks {
  #pool
  #operation
  #file
  #blockBytes
  #isOpen = false
  /** Whether the file is being opened or read. It can be closed only after that. */
  #isBusy = false
  /** Called when the file is not busy any more. */
  #onIdle = () => {}
  /** @type {ReadAhead | undefined} */
  #ahead

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {import('./operation').Operation<void>} operation
   * @param {import('./source-file').SourceFile} file
   * @param {number} chunkSize
   */
  constructor(pool, operation, file, chunkSize) {
    this.#pool = pool
    this.#operation = operation
    this.#file = file
    this.#blockBytes = chunkSize
  }

  /**
   * Calls the consumer once, unless the operation ends first.
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
   * Closes the file, as soon as it is not busy any more. The operation MUST be over.
   *
   * @param {() => void} callback
   */
  stop(callback) {
    const ahead = this.#takeAhead()
    this.#onIdle = () => {
      ahead?.drop()
      this.#file.close(callback)
    }
    if (!this.#isBusy) this.#onIdle()
  }

  /** @param {() => void} callback */
  discard(callback) {
    this.stop(callback)
  }

  /** Closes the file that this has opened: nobody else has it. */
  abandon() {
    this.stop(() => {})
  }

  /** @param {Consumer} consumer */
  #produce(consumer) {
    const { onError } = consumer
    const onChunk = (/** @type {Lease | undefined} */ lease, /** @type {number} */ length) => {
      // A chunk that did not fill its block is a file's last, or a FIFO's, which may have no more
      // for long.
      if (lease !== undefined && length === this.#blockBytes) this.#readAhead()
      if (!this.#operation.isOver) consumer.onChunk(lease, length)
      else if (lease !== undefined) endLease(lease)
    }
    const ahead = this.#takeAhead()
    if (ahead !== undefined) ahead.claim({ onChunk, onError }, this.#operation)
    else if (this.#file.left === 0) onChunk(undefined, 0)
    else {
      const fill = (/** @type {Lease} */ lease) => this.#fill(lease, { onChunk, onError })
      this.#operation.requestLease(this.#blockBytes, fill, onError)
    }
  }

  /**
   * @param {Lease} lease
   * @param {Consumer} consumer
   */
  #fill(lease, { onChunk, onError }) {
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
    if (this.#operation.isOver || this.#file.left === 0) return
    const lease = tryLease(this.#pool, this.#blockBytes)
    if (lease === undefined) return
    // The lease may have run other code, which has ended the operation.
    if (this.#operation.isOver) {
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

  /**
   * @param {Lease} lease
   * @param {import('./source-file').OnRead} callback
   */
  #read(lease, callback) {
    this.#isBusy = true
    this.#file.read(bufferOf(lease), (error, bytesRead) => {
      this.#rest()
      callback(error, bytesRead)
    })
  }

  /** Notes that the file is not busy any more. */
  #rest() {
    this.#isBusy = false
    this.#onIdle()
  }
}

module.exports = { FileChunks }
