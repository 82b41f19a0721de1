'use strict'

/**
 * A stream's chunks, copied into blocks.
 *
 * The consumer gets a block
 *
 * - when it is full,
 * - when nothing more has come by the end of an event-loop turn,
 * - when it is half full and the next piece would have to be cut. That piece goes to the next
 *   block.
 *
 * All steps are callbacks: a promise for each piece would take a third of the time that a body
 * takes.
 */

const { Buffer } = require('node:buffer')
const { isAnyArrayBuffer } = require('node:util').types
const { cacheOf } = require('../pool/buffer-pool')
const { AlreadyReleased, InvalidArgType, InvalidArgValue } = require('../pool/errors')
const { bufferOf, endLease, isOver } = require('../pool/lease')
const { fixedViewOf, lengthOf, partOf, setBytes } = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')
const { tryLease } = require('./leases')
const { END, NOTHING_YET } = require('./stream-source')

const { max, min } = Math
const { isView } = ArrayBuffer
const { from } = Buffer

/**
 * The sizes of blocks by default: 64 to 256 KiB. A stream that fills its blocks gets larger ones,
 * because each lease costs as much as the copy of 64 KiB. A stream that does not gets smaller ones.
 */
const SMALLEST = 64 * 1024
const LARGEST = 256 * 1024
/** A block was too large if no larger part of it was filled. */
const SMALL_PART = 1 / 8

/**
 * @typedef {import('../pool/lease').Lease} Lease
 * @typedef {import('./read-ahead').Consumer} Consumer
 * @typedef {import('./stream-source').Source} Source
 */

class StreamChunks {
  #pool
  #operation
  /** @type {Source} */
  #source
  #blockBytes
  /** Whether the size of blocks follows the stream. */
  #isAdaptive
  /**
   * The consumer of the call that is being served.
   *
   * @type {Consumer | undefined}
   */
  #consumer
  /**
   * The bytes in the source's memory to copy next. Other code may shrink them at any time.
   *
   * @type {Uint8Array | undefined}
   */
  #piece
  /** How many bytes the piece had when it came. */
  #pieceLength = 0
  /**
   * The block that is being filled.
   *
   * @type {Lease | undefined}
   */
  #lease
  /** How many bytes of it are filled. */
  #length = 0
  #isWaiting = false
  /** Whether `#onEndOfTurn` is scheduled. */
  #isTurnEnding = false
  #isTurnOver = false
  #isFilling = false
  /** Whether anything has changed while a block was being filled. */
  #hasChanged = false
  /**
   * The error of the source, while the consumer gets the bytes before it.
   *
   * @type {{ error: unknown } | undefined}
   */
  #failure

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {import('./operation').Operation<void>} operation
   * @param {(onChange: () => void) => Source} begin
   * @param {number | undefined} chunkSize
   */
  constructor(pool, operation, begin, chunkSize) {
    this.#pool = pool
    this.#operation = operation
    this.#blockBytes = chunkSize ?? SMALLEST
    this.#isAdaptive = chunkSize === undefined
    this.#source = begin(this.#advance)
  }

  /**
   * Calls the consumer once, unless the operation ends first.
   *
   * @param {Consumer} consumer
   */
  next(consumer) {
    this.#consumer = consumer
    this.#advance()
  }

  /**
   * Ends the stream. The operation MUST be over.
   *
   * @param {() => void} callback
   */
  stop(callback) {
    this.#giveUp()
    this.#source.stop(callback)
  }

  /**
   * Reads no more. A server's request stays open for its answer; any other stream ends.
   *
   * @param {() => void} callback
   */
  discard(callback) {
    this.#giveUp()
    this.#source.discard(callback)
  }

  /** Reads no more, and leaves the stream to its user. */
  abandon() {
    this.#giveUp()
    this.#source.release()
  }

  #giveUp() {
    this.#consumer = undefined
    this.#piece = undefined
    this.#endLease()
  }

  #endLease() {
    const lease = this.#lease
    this.#lease = undefined
    this.#length = 0
    if (lease !== undefined) endLease(lease)
  }

  /** Works until nothing changes any more. Anyone may call this, at any time. */
  #advance = () => {
    this.#hasChanged = true
    if (this.#isFilling) return
    this.#isFilling = true
    while (this.#hasChanged) {
      this.#hasChanged = false
      try {
        if (this.#consumer !== undefined && !this.#isWaiting) this.#fill()
      } catch (error) {
        this.#fail(error)
      }
    }
    this.#isFilling = false
  }

  /** Fills a block with the bytes that are there, and hands it on when they are enough. */
  #fill() {
    if (this.#failure !== undefined) throw this.#failure.error
    for (;;) {
      const size = this.#blockBytes
      const isThere = this.#piece !== undefined || this.#takeOrHandOn()
      // Other code has run.
      if (this.#operation.isOver || this.#consumer === undefined) return
      if (!isThere) {
        if (this.#isTurnOver) this.#handOn()
        else if (this.#length > 0) this.#awaitEndOfTurn()
        return
      }
      const count = this.#pieceLength
      const mustBeCut = count > size - this.#length && count <= size
      if (mustBeCut && 2 * this.#length >= size) return this.#handOn()
      if (this.#lease === undefined) {
        this.#request()
        if (this.#lease === undefined) return
      } else {
        this.#putPiece()
        if (this.#length === size) return this.#handOn()
      }
    }
  }

  /** As `#take`. Where that fails after bytes, hands those on: the next call fails. */
  #takeOrHandOn() {
    try {
      return this.#take()
    } catch (error) {
      if (this.#length === 0) throw error
      this.#failure = { error }
      this.#handOn()
      return false
    }
  }

  /**
   * Takes the next piece that is not empty. Returns whether there is one. At the end hands the rest
   * on.
   */
  #take() {
    for (;;) {
      const value = this.#source.read()
      if (this.#operation.isOver || value === NOTHING_YET) return false
      if (value === END) {
        this.#handOn()
        return false
      }
      const piece = toBytes(value, this.#source)
      const length = lengthOf(piece)
      if (length > 0) {
        this.#piece = piece
        this.#pieceLength = length
        return true
      }
    }
  }

  /** Copies as much of the piece as the block has room for. */
  #putPiece() {
    const piece = /** @type {Uint8Array} */ (this.#piece)
    const count = this.#pieceLength
    if (lengthOf(piece) !== count) {
      throw new InvalidArgValue('chunk', `must keep its ${count} bytes meanwhile`, piece)
    }
    const lease = /** @type {Lease} */ (this.#lease)
    // Other code has run since the block was leased.
    if (isOver(lease)) throw new AlreadyReleased(cacheOf(this.#pool).name, undefined, 'chunk')
    const room = this.#blockBytes - this.#length
    if (count <= room) {
      setBytes(bufferOf(lease), piece, this.#length)
      this.#length += count
      this.#piece = undefined
    } else {
      setBytes(bufferOf(lease), partOf(piece, 0, room), this.#length)
      this.#length += room
      this.#piece = partOf(piece, room, count - room)
      this.#pieceLength = count - room
    }
  }

  /**
   * Leases a block, perhaps at once. A larger one is not worth a wait, which leases of the user's
   * own could make endless.
   */
  #request() {
    this.#isWaiting = true
    if (this.#isAdaptive && this.#blockBytes > SMALLEST) {
      const lease = tryLease(this.#pool, this.#blockBytes)
      if (lease !== undefined) return this.#onLease(lease)
      this.#blockBytes = SMALLEST
    }
    this.#operation.requestLease(this.#blockBytes, this.#onLease, this.#onRefused)
  }

  /** @param {Lease} lease */
  #onLease = (lease) => {
    this.#isWaiting = false
    if (this.#operation.isOver) {
      endLease(lease)
      return
    }
    this.#lease = lease
    this.#advance()
  }

  /** @param {unknown} error */
  #onRefused = (error) => {
    this.#isWaiting = false
    this.#fail(error)
  }

  #awaitEndOfTurn() {
    if (this.#isTurnEnding) return
    this.#isTurnEnding = true
    setImmediate(this.#onEndOfTurn)
  }

  #onEndOfTurn = () => {
    this.#isTurnEnding = false
    this.#isTurnOver = this.#length > 0
    this.#advance()
    this.#isTurnOver = false
  }

  /** Gives the consumer the bytes so far; where there are none, the end. */
  #handOn() {
    const consumer = this.#consumer
    const lease = this.#lease
    const length = this.#length
    this.#consumer = undefined
    this.#lease = undefined
    this.#length = 0
    if (this.#isAdaptive) this.#adapt(length)
    consumer?.onChunk(lease, length)
  }

  /** @param {number} length how many bytes the last block has */
  #adapt(length) {
    const size = this.#blockBytes
    if (2 * length >= size) this.#blockBytes = min(2 * size, LARGEST)
    else if (length < SMALL_PART * size) this.#blockBytes = max(size / 2, SMALLEST)
  }

  /** @param {unknown} error */
  #fail(error) {
    const consumer = this.#consumer
    this.#consumer = undefined
    this.#endLease()
    consumer?.onError(error)
  }
}

/**
 * Returns the bytes of a piece, as a view whose length stays.
 *
 * @param {unknown} value
 * @param {Source} source
 */
function toBytes(value, source) {
  if (typeof value === 'string') return fixedViewOf(from(value, source.encoding))
  if (isView(value) || isAnyArrayBuffer(value)) return fixedViewOf(value)
  throw new InvalidArgType('chunk', 'a string, an ArrayBuffer or a view of one', value)
}

module.exports = { StreamChunks }
