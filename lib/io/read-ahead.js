'use strict'

const { cacheOf } = require('../pool/buffer-pool')
const { AlreadyReleased } = require('../pool/errors')
const { bufferOf, endLease, isOver } = require('../pool/lease')
const { addTo, allocUnsafeSlow, deleteFrom, partOf, setBytes } = require('../runtime/intrinsics')

/**
 * @typedef {import('../pool/lease').Lease} Lease
 *
 * @typedef {object} Consumer
 * @property {(lease: Lease | undefined, length: number) => void} onChunk with the lease that has the chunk at its
 *   beginning; with none after the last
 * @property {(error: unknown) => void} onError
 *
 * @typedef {(size: number, onLease: (lease: Lease) => void, onError: (error: unknown) => void) => void} Request
 */

/**
 * A chunk that is read before it is asked for. It has its block only as long as nobody waits for one: perhaps
 * that is who is to ask for it. Then it is copied out, and has to get a block again.
 *
 * The pool knows of it by one function, `#giveUp`: once the chunk is claimed that does nothing, whoever has it.
 */
class ReadAhead {
  /** The pool's. */
  #name
  #revocable
  /**
   * Its block, until it is claimed or dropped.
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
   * The one who has claimed it, while it is being read.
   *
   * @type {Consumer | undefined}
   */
  #consumer

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {Lease} lease of the block that it is being read into
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
   * Gives the chunk to a consumer, once it is read. To be called once.
   *
   * @param {Consumer} consumer
   * @param {Request} request leases a block, where the chunk has none any more
   */
  claim(consumer, request) {
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
    request(this.#length, fill, consumer.onError)
  }

  /** Lets go of the chunk, once it is read. */
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
 * Copies bytes into the block of a lease. Whether it was there.
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
