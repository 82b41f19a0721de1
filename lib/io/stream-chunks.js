'use strict'

/**
 * A stream's chunks, copied into blocks.
 *
 * A block is handed on when it is full, when nothing more has come by the end of a turn of the event loop, and when it
 * is half full and the next piece would have to be cut. Then that has the next block to itself.
 *
 * All goes by callbacks: a promise for each piece would take a third of the time that a body takes.
 */

const { Buffer } = require('node:buffer')
const { isAnyArrayBuffer } = require('node:util').types
const { cacheOf, requestLease } = require('../pool/buffer-pool')
const { AlreadyReleased, InvalidArgType, InvalidArgValue } = require('../pool/errors')
const { bufferOf, endLease, isOver } = require('../pool/lease')
const { fixedViewOf, lengthOf, partOf, setBytes } = require('../runtime/intrinsics')
const { setImmediate } = require('../runtime/timers')
const { tryLease } = require('./try-lease')
const { END, NOTHING_YET } = require('./stream-source')

const { max, min } = Math
const { isView } = ArrayBuffer
const { from } = Buffer

/**
 * The sizes of blocks where the user says nothing. A stream that fills them gets larger ones, since each lease costs
 * as much as the copy of 64 KiB; one that does not, smaller ones.
 */
const SMALLEST = 64 * 1024
const LARGEST = 256 * 1024
/** A block of which so small a part is filled was too large. */
const SMALL_PART = 1 / 8

/**
 * @typedef {import('../pool/lease').Lease} Lease
 * @typedef {import('./read-ahead').Consumer} Consumer
 * @typedef {import('./stream-source').Source} Source
 */

class StreamChunks {
  #pool
  /** @type {Source} */
  #source
  #blockBytes
  /** Whether the blocks follow the stream. */
  #isAdaptive
  /**
   * The call that is being served.
   *
   * @type {Consumer | undefined}
   */
  #consumer
  /**
   * The bytes of the source's memory that are to be copied next. They may become fewer at any time.
   *
   * @type {Uint8Array | undefined}
   */
  #piece
  /** How many they were when they came. */
  #pieceLength = 0
  /**
   * The block that is being filled.
   *
   * @type {Lease | undefined}
   */
  #lease
  /** How much of it is filled. */
  #length = 0
  /** Ends the wait for memory. */
  #cancel = () => {}
  #isWaiting = false
  /** Whether the end of this turn of the event loop will be noticed. */
  #isTurnEnding = false
  #isTurnOver = false
  #isFilling = false
  /** Whether something has changed while a block was being filled. */
  #hasChanged = false
  /**
   * What the source has failed with, after bytes that are told of first.
   *
   * @type {{ error: unknown } | undefined}
   */
  #failure
  #isStopped = false

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {(onChange: () => void) => Source} begin
   * @param {number | undefined} chunkSize
   */
  constructor(pool, begin, chunkSize) {
    this.#pool = pool
    this.#blockBytes = chunkSize ?? SMALLEST
    this.#isAdaptive = chunkSize === undefined
    this.#source = begin(this.#advance)
  }

  /**
   * Calls the consumer once, unless it is stopped first.
   *
   * @param {Consumer} consumer
   */
  next(consumer) {
    this.#consumer = consumer
    this.#advance()
  }

  /**
   * Ends the stream.
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

  /** Reads no more. The stream is its user's. */
  abandon() {
    this.#giveUp()
    this.#source.release()
  }

  #giveUp() {
    this.#isStopped = true
    this.#consumer = undefined
    this.#piece = undefined
    this.#cancel()
    this.#endLease()
  }

  #endLease() {
    const lease = this.#lease
    this.#lease = undefined
    this.#length = 0
    if (lease !== undefined) endLease(lease)
  }

  /** Goes on for as long as there is something to do. Anyone may call it, at any time. */
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

  /** Fills a block with what is there, and hands it on once that is enough. */
  #fill() {
    if (this.#failure !== undefined) throw this.#failure.error
    for (;;) {
      const size = this.#blockBytes
      const isThere = this.#piece !== undefined || this.#takeOrHandOn()
      // Other code has run.
      if (this.#isStopped || this.#consumer === undefined) return
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

  /** As `#take`. Where that fails, the bytes that came before are handed on, and the next call is told. */
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
   * Takes the next piece that is not empty. Returns whether there is one; at the end, what there is is handed on.
   */
  #take() {
    for (;;) {
      const value = this.#source.read()
      if (this.#isStopped || value === NOTHING_YET) return false
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

  /** Copies as much of the piece as there is room for. */
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

  /** Leases a block, perhaps at once. A larger one is not worth a wait, which the user's own leases could make endless. */
  #request() {
    this.#isWaiting = true
    if (this.#isAdaptive && this.#blockBytes > SMALLEST) {
      const lease = tryLease(this.#pool, this.#blockBytes)
      if (lease !== undefined) return this.#onLease(lease)
      this.#blockBytes = SMALLEST
    }
    const cancel = requestLease(this.#pool, this.#blockBytes, this.#onLease, this.#onRefused)
    this.#cancel = cancel
    // Whoever is told that the pool is exhausted may have stopped it.
    if (this.#isStopped) cancel()
  }

  /** @param {Lease} lease */
  #onLease = (lease) => {
    this.#isWaiting = false
    if (this.#isStopped) {
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

  /** @param {number} length of what the last block has */
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
 * The bytes of a piece: a view whose length stays.
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
