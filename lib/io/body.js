'use strict'

/**
 * The bytes of a body so far, and the block that has them.
 *
 * - Memory follows the bytes that have arrived, whatever length is announced: see `body-size.js`.
 * - A body that has a block MUST NOT wait for another. Otherwise bodies that outgrow their blocks
 *   could wait for one another for ever. A body of unknown length gets a larger block at once, from
 *   the pool or as its `onExhausted` says, or fails. A body of announced length may wait. It first
 *   moves its bytes to V8's memory and gives its block back.
 * - A chunk is copied once, to its place in the block, and again only when the body outgrows the
 *   block.
 * - Other code may run within each lease and release. It may end the call, and may append chunks.
 *   So the body holds each block by its Lease, and looks at its own state again after each such
 *   call.
 */

const { canEverHold, cacheOf, leaseFrom } = require('../pool/buffer-pool')
const {
  AlreadyReleased,
  BodyTooLarge,
  Closed,
  Exhausted,
  InvalidArgValue,
  LengthMismatch,
  NEVER
} = require('../pool/errors')
const { Lease, bufferOf, endLease, isOver } = require('../pool/lease')
const {
  Bytes,
  arrayBufferOf,
  bufferOver,
  closeOff,
  lengthOf,
  setBytes
} = require('../runtime/intrinsics')
const { slotOf } = require('../cache/tag')
const { firstSize, nextSize } = require('./body-size')
const { BY_HEADER } = require('./body-state')
const { giveBack } = require('./leases')

const { max, min } = Math

const NOTHING = new Bytes(0)

class Body {
  #pool
  #cache
  /** @type {import('./operation').Operation<Lease>} */
  #operation
  #limit
  /** The length that the caller has given. */
  #known
  /**
   * The length that the caller or the Content-Length gives; `undefined` where neither does.
   *
   * @type {number | undefined}
   */
  #announced
  /**
   * The block of the bytes so far; `undefined` before the first, and while V8's memory has them.
   *
   * @type {Lease | undefined}
   */
  #lease
  /** All of that block, or of V8's memory. No other code sees this view. */
  #memory = NOTHING
  /** How many bytes the memory has. */
  #length = 0
  /**
   * The chunk that made the block too small, and its length as it was then.
   *
   * @type {Uint8Array | undefined}
   */
  #chunk
  #chunkLength = 0
  #isMoving = false
  #onMoved
  #onWait

  /**
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {import('./operation').Operation<Lease>} operation
   * @param {number} limit
   * @param {number | undefined} known the length that the caller has given
   * @param {object} callbacks
   * @param {() => void} callbacks.onMoved called when the bytes are in a block with room for all of
   *   them
   * @param {() => void} callbacks.onWait called before the body waits for a larger block
   */
  constructor(pool, operation, limit, known, { onMoved, onWait }) {
    this.#pool = pool
    this.#cache = cacheOf(pool)
    this.#operation = operation
    this.#limit = limit
    this.#known = known
    this.#onMoved = onMoved
    this.#onWait = onWait
  }

  /** Whether a block is on its way. Chunks that come meanwhile go to V8's memory. */
  get isMoving() {
    return this.#isMoving
  }

  /**
   * Notes the length of the body as far as it is known. Throws where the caller's and the message's
   * differ.
   *
   * @param {number | undefined} byHeader
   */
  announce(byHeader) {
    const known = this.#known
    if (known !== undefined && byHeader !== undefined && known !== byHeader) {
      throw new LengthMismatch(known, KNOWN, `a Content-Length of ${byHeader}`)
    }
    this.#announced = known ?? byHeader
  }

  /** Throws where the pool can not serve a body of the announced length. */
  checkAnnounced() {
    const announced = this.#announced
    if (announced === undefined) return
    if (announced > this.#limit) {
      const source = this.#known === undefined ? BY_HEADER : `${KNOWN} is`
      throw new BodyTooLarge(this.#limit, announced, source)
    }
    const { isClosed, name, maxBytes } = this.#cache
    if (isClosed) throw new Closed(name)
    if (announced > 0 && !canEverHold(this.#pool, announced)) {
      throw new Exhausted(name, announced, maxBytes, NEVER)
    }
  }

  /**
   * Requests the first block, and calls `onMoved` with it. Returns false where the first bytes
   * decide how large it is.
   *
   * @param {boolean} isBodiless
   */
  requestFirst(isBodiless) {
    const isEmpty = this.#announced === undefined && isBodiless
    const size = isEmpty ? 0 : firstSize(this.#announced, this.#limit)
    if (size === 0) return false
    this.#isMoving = true
    this.#operation.requestLease(size, this.#moveTo, rethrow)
    return true
  }

  /** @param {Uint8Array} bytes */
  append(bytes) {
    const count = lengthOf(bytes)
    if (count === 0) return
    const arrived = this.#length + this.#chunkLength + count
    this.#checkLength(arrived)
    if (this.#isMoving) {
      this.#appendAside(bytes, count)
    } else if (arrived > lengthOf(this.#memory)) {
      this.#chunk = bytes
      this.#chunkLength = count
      this.#isMoving = true
      this.#grow()
    } else {
      this.#store(bytes, count)
    }
  }

  /** @param {number} length */
  #checkLength(length) {
    if (length > this.#limit) throw new BodyTooLarge(this.#limit, length)
    const announced = this.#announced
    if (announced !== undefined && length > announced) throw this.#mismatch(announced, length)
  }

  /** Throws where a body that has ended is shorter than announced. */
  checkComplete() {
    const announced = this.#announced
    if (announced !== undefined && this.#length !== announced) {
      throw this.#mismatch(announced, this.#length)
    }
  }

  /**
   * @param {number} announced
   * @param {number} length
   */
  #mismatch(announced, length) {
    const source = this.#known === undefined ? 'its Content-Length' : KNOWN
    return new LengthMismatch(announced, source, length)
  }

  /**
   * Copies bytes behind those so far. No other code runs within.
   *
   * @param {Uint8Array} bytes
   * @param {number} count
   */
  #store(bytes, count) {
    this.#check(this.#lease)
    setBytes(this.#memory, bytes, this.#length)
    this.#length += count
  }

  /**
   * Throws where a block has another owner by now. Code that has changed the class of Buffers has
   * seen the block, and can release it.
   *
   * @param {Lease | undefined} lease
   */
  #check(lease) {
    if (lease !== undefined && isOver(lease)) {
      throw new AlreadyReleased(this.#cache.name, bufferOf(lease), 'body')
    }
  }

  #storeChunk() {
    const chunk = this.#chunk
    if (chunk === undefined) return
    const count = this.#chunkLength
    this.#chunk = undefined
    this.#chunkLength = 0
    if (lengthOf(chunk) !== count) throw new InvalidArgValue('chunk', MOVED, chunk)
    this.#store(chunk, count)
  }

  /**
   * Appends bytes that come while a block is on its way.
   *
   * @param {Uint8Array} bytes
   * @param {number} count
   */
  #appendAside(bytes, count) {
    const needed = this.#length + this.#chunkLength + count
    if (this.#lease !== undefined || this.#chunk !== undefined) {
      this.#moveAside(needed, () => this.#store(bytes, count))
      return
    }
    if (needed > lengthOf(this.#memory)) {
      const most = this.#announced ?? this.#limit
      this.#memory = this.#copy(min(max(needed, 2 * this.#length), most))
    }
    this.#store(bytes, count)
  }

  /**
   * Moves the bytes so far to V8's memory, and gives the block back.
   *
   * @param {number} size
   * @param {() => void} [then] called before other code can run
   */
  #moveAside(size, then) {
    const lease = this.#lease
    this.#check(lease)
    this.#memory = this.#copy(size)
    this.#lease = undefined
    try {
      this.#storeChunk()
      then?.()
    } finally {
      if (lease !== undefined) endLease(lease)
    }
  }

  /**
   * Returns a copy of the bytes so far in V8's memory.
   *
   * @param {number} size
   */
  #copy(size) {
    const copy = new Bytes(size)
    setBytes(copy, this.#bytes(), 0)
    return copy
  }

  /** Returns a view of the bytes so far. */
  #bytes() {
    return new Bytes(/** @type {ArrayBuffer} */ (arrayBufferOf(this.#memory)), 0, this.#length)
  }

  /** Gets a block for the bytes so far. */
  #grow() {
    if (this.#announced === undefined) {
      this.#growAtOnce()
      return
    }
    this.#operation.requestLease(
      this.#nextSize(),
      this.#moveTo,
      this.#growWithout,
      this.#giveWayToOthers
    )
  }

  /** Gets a block from the pool or as its `onExhausted` says, or throws. */
  #growAtOnce() {
    this.#moveTo(leaseFrom(this.#pool, this.#nextSize()))
  }

  #nextSize() {
    return nextSize({
      arrived: this.#length + this.#chunkLength,
      held: this.#lease === undefined ? 0 : lengthOf(this.#memory),
      announced: this.#announced,
      limit: this.#limit,
      largest: this.#cache.largest
    })
  }

  /**
   * Grows as a body of unknown length does, where the pool can not hold such a block any more.
   *
   * @param {unknown} error
   */
  #growWithout = (error) => {
    if (!(error instanceof Exhausted)) throw error
    this.#growAtOnce()
  }

  /** Gives the block back before the body waits: others wait for that block. */
  #giveWayToOthers = () => {
    this.#onWait()
    if (!this.#operation.isOver) this.#moveAside(this.#length + this.#chunkLength)
  }

  /**
   * Moves the bytes so far to a block.
   *
   * @param {Lease} lease
   */
  #moveTo = (lease) => {
    let fits = false
    /** @type {Lease | undefined} */
    let surplus = lease
    try {
      if (this.#operation.isOver) return
      this.#check(lease)
      const memory = new Bytes(/** @type {ArrayBuffer} */ (arrayBufferOf(bufferOf(lease))))
      // More bytes may have come while the block was on its way.
      fits = this.#length + this.#chunkLength <= lengthOf(memory)
      if (fits) {
        this.#check(this.#lease)
        setBytes(memory, this.#bytes(), 0)
        surplus = this.#lease
        this.#lease = lease
        this.#memory = memory
        this.#isMoving = false
        this.#storeChunk()
      }
    } finally {
      if (surplus !== undefined) endLease(surplus)
    }
    if (this.#operation.isOver) return
    if (!fits) this.#grow()
    // The release may have run code that has appended more.
    else if (!this.#isMoving) this.#onMoved()
  }

  /** Returns a lease of the whole body. */
  lease() {
    if (this.#length === 0) {
      this.release()
      return leaseFrom(this.#pool, 0)
    }
    const lease = /** @type {Lease} */ (this.#lease)
    const arrayBuffer = /** @type {ArrayBuffer} */ (arrayBufferOf(this.#memory))
    this.#check(lease)
    const body = bufferOver(arrayBuffer, this.#length)
    // Other code can reach the class of Buffers, and may have released the block.
    this.#check(lease)
    return new Lease(body, /** @type {import('../cache/slot').Slot} */ (slotOf(arrayBuffer)))
  }

  release() {
    const lease = this.#lease
    this.#lease = undefined
    this.#chunk = undefined
    this.#memory = NOTHING
    if (lease !== undefined) giveBack(lease)
  }
}

closeOff(Body)

/** How errors name the length that the caller has given. */
const KNOWN = 'options.length'

/** @param {unknown} error for the guard of the operation */
function rethrow(error) {
  throw error
}

const MOVED = 'must keep its memory, which was moved while it was read'

module.exports = { Body }
