'use strict'

const { cacheOf } = require('../pool/buffer-pool')
const { AlreadyReleased } = require('../pool/errors')
const { bufferOf, endLease, isOver } = require('../pool/lease')
const { addTo, allocUnsafeSlow, deleteFrom, partOf, setBytes } = require('../runtime/intrinsics')

/**
 * @typedef {import('../pool/lease').Lease} Lease
 *
 * @typedef {object} Consumer
 * @property {(lease: Lease | undefined, length: number) => void} onChunk called with the lease that
 *   has the chunk at its beginning; without one after the last chunk
 * @property {(error: unknown) => void} onError
 */

/**
 * A chunk that is read before its user asks for it. It has its block only until someone waits for
 * one: the waiter may be the very code that is to ask for the chunk. Then the chunk moves to V8's
 * memory, and needs a block again later.
 *
 * The pool has one function of it, `#giveUp`. Once the chunk is claimed, that does nothing, whoever
 * calls it.
 */
class ReadAhead {
  /** The pool's name. */
  #name
  #revocable
  /**
   * The lease of its block, until the chunk is claimed or dropped.
   *
   * @type {Lease | undefined}
   */
  #lease
  #length = 0
  /** @type {Uint8Array | undefined} */
  #copy
  /** @type {unknown} */
  #error
  #isRead = false
  #isGivenUp = false
  #isDropped = false
  /**
   * The consumer that has claimed the chunk during the read.
   *
   * @type {Consumer | undefined}
   */
  #consumer

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {Lease} lease of the block that the chunk is read into
   */
  constructor(pool, lease) {
    const cache = cacheOf(pool)
    this.#lease = lease
    this.#name = cache.name
    this.#revocable = cache.trimmer.revocable
    addTo(this.#revocable, this.#giveUp)
  }

  #giveUp = () => {
    this.#isGivenUp = true
    const lease = this.#lease
    if (lease === undefined || !this.#isRead) return
    const copy = allocUnsafeSlow(this.#length)
    setBytes(copy, partOf(bufferOf(lease), 0, this.#length), 0)
    this.#copy = copy
    this.#lease = undefined
    deleteFrom(this.#revocable, this.#giveUp)
    endLease(lease)
  }

  /**
   * Notes that the read has ended.
   *
   * @param {unknown} error
   * @param {number} bytesRead 0 at the end of the file
   */
  onRead(error, bytesRead) {
    this.#isRead = true
    this.#error = error
    this.#length = bytesRead
    if (error || bytesRead === 0 || this.#isDropped) this.#end()
    const consumer = this.#consumer
    this.#consumer = undefined
    if (consumer !== undefined) this.#give(consumer)
    else if (this.#isGivenUp) this.#giveUp()
  }

  /**
   * Gives the chunk to a consumer, as soon as it is read. MUST be called once at most.
   *
   * @param {Consumer} consumer
   * @param {import('./operation').Operation<void>} operation leases a block, where the chunk has
   *   none any more
   */
  claim(consumer, operation) {
    deleteFrom(this.#revocable, this.#giveUp)
    if (!this.#isRead) {
      this.#consumer = consumer
      return
    }
    const copy = this.#copy
    if (copy === undefined) {
      this.#give(consumer)
      return
    }
    const fill = (/** @type {Lease} */ lease) => {
      if (putInto(lease, copy)) consumer.onChunk(lease, this.#length)
      else consumer.onError(new AlreadyReleased(this.#name, undefined, 'chunk'))
    }
    operation.requestLease(this.#length, fill, consumer.onError)
  }

  /** Releases the chunk, as soon as it is read. */
  drop() {
    this.#isDropped = true
    deleteFrom(this.#revocable, this.#giveUp)
    if (this.#isRead) this.#end()
  }

  /** @param {Consumer} consumer */
  #give(consumer) {
    const lease = this.#lease
    this.#lease = undefined
    if (this.#error) consumer.onError(this.#error)
    else consumer.onChunk(lease, this.#length)
  }

  /** Ends the lease, if it still has one. */
  #end() {
    const lease = this.#lease
    this.#lease = undefined
    deleteFrom(this.#revocable, this.#giveUp)
    if (lease !== undefined) endLease(lease)
  }
}

/**
 * Copies bytes into the block of a lease. Returns false where the lease is over.
 *
 * @param {Lease} lease
 * @param {Uint8Array} bytes
 */
function putInto(lease, bytes) {
  if (isOver(lease)) return false
  setBytes(bufferOf(lease), bytes, 0)
  return true
}

module.exports = { ReadAhead }
