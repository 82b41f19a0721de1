'use strict'

/**
 * A file to a writable through two blocks: while one is being written, the next read fills the
 * other.
 *
 *   free ──▶ being read into ──▶ ready ──▶ being written ──▶ free
 *
 * A block MUST NOT be released while the kernel reads into it or writes from it.
 */

const { addEntries } = require('../cache/call-site')
const { cacheOf } = require('../pool/buffer-pool')
const { AlreadyReleased, InvalidArgType, PrematureClose } = require('../pool/errors')
const { bufferOf, isOver } = require('../pool/lease')
const { arrayBufferOf, bufferOver } = require('../runtime/intrinsics')
const {
  checkInteger,
  checkOptions,
  checkPool,
  checkRange,
  checkSignal,
  checkWritable
} = require('./checks')
const { isPath } = require('./file-handle')
const { detaches, giveBack, tryLease } = require('./leases')
const { Operation } = require('./operation')
const { Sink } = require('./sink')
const { LARGEST_READ, SourceFile } = require('./source-file')

/**
 * The default of `chunkSize`: 256 KiB. Measured with 8 MiB files at 20 connections: half of it
 * costs a third more CPU; twice of it saves a tenth, and doubles the memory that each slow client
 * keeps leased.
 */
const CHUNK_BYTES = 256 * 1024

/**
 * @typedef {import('../pool/buffer-pool').BufferPool} BufferPool
 * @typedef {import('../pool/lease').Lease} Lease
 */

/**
 * @param {BufferPool} pool
 * @param {import('node:fs').PathLike | import('node:fs/promises').FileHandle} file
 * @param {import('node:stream').Writable} writable
 * @param {{ start?: number, end?: number, chunkSize?: number, signal?: AbortSignal }} [options]
 * @returns {Promise<number>}
 */
async function pumpFile(pool, file, writable, options = {}) {
  checkPool(pool)
  if (!isPath(file)) {
    throw new InvalidArgType('file', 'a string, a Buffer, a URL or a FileHandle', file)
  }
  checkWritable('writable', writable)
  checkOptions(options, ['start', 'end', 'chunkSize', 'signal'])
  const { start, end, chunkSize = CHUNK_BYTES, signal } = options
  checkRange(start, end)
  checkInteger('options.chunkSize', chunkSize, 1, LARGEST_READ)
  checkSignal(signal)
  return new Pump(pool, new SourceFile(file, start, end), writable, chunkSize, signal).run()
}

class Pump {
  #pool
  #file
  #sink
  #blockBytes
  /** @type {Operation<number>} */
  #operation

  /** @type {Lease | undefined} */
  #free
  /** @type {Lease | undefined} */
  #beingRead
  /** @type {Lease | undefined} */
  #ready
  #readyBytes = 0
  /**
   * The block that the writable was lent, until it is certainly done with it.
   *
   * @type {{ lease: Lease } | undefined}
   */
  #lent

  #isWriting = false
  /** Whether the file is not read any more. */
  #isClosed = false
  /** Whether a second block may still be leased. */
  #mayGrow = true
  #hasReadAll = false
  /** How many calls under way need the file. */
  #underWay = 0
  #total = 0
  /** Called when nothing is under way, after a failure. */
  #onIdle = () => {}

  /**
   * @param {BufferPool} pool
   * @param {SourceFile} file
   * @param {import('node:stream').Writable} writable
   * @param {number} chunkSize
   * @param {AbortSignal | undefined} signal
   */
  constructor(pool, file, writable, chunkSize, signal) {
    this.#pool = pool
    this.#file = file
    this.#sink = new Sink(writable, this.#onWritten, this.#fail)
    this.#blockBytes = Math.min(chunkSize, file.left)
    this.#operation = new Operation(pool, signal, this.#fail)
  }

  run() {
    const operation = this.#operation
    operation.listen()
    if (!operation.isOver) operation.guard(() => this.#sink.watch())
    if (operation.isOver) {
      // Other code may have ended the call before the sink had all listeners.
      this.#sink.unwatch()
    } else {
      this.#underWay++
      this.#file.open(this.#onOpen)
    }
    return operation.promise
  }

  /** @param {Error | null} error */
  #onOpen = (error) => {
    this.#underWay--
    if (this.#operation.isOver) this.#endIfIdle()
    else if (error) this.#fail(error)
    else this.#operation.requestLease(this.#blockBytes, this.#onLease, this.#fail)
  }

  /** @param {Lease} lease */
  #onLease = (lease) => {
    this.#put(lease)
    this.#step()
  }

  /** Begins all that can begin. */
  #step() {
    if (this.#ready !== undefined && !this.#isWriting) this.#write(this.#ready)
    if (this.#operation.isOver || this.#ready !== undefined || this.#beingRead !== undefined) return
    if (!this.#isClosed) this.#read()
    else if (!this.#isWriting && this.#underWay === 0) this.#succeed()
  }

  #read() {
    const lease = this.#free ?? this.#grow()
    if (lease === undefined) return
    this.#free = undefined
    if (this.#isGone(lease)) return
    this.#beingRead = lease
    this.#underWay++
    this.#file.read(bufferOf(lease), this.#onRead)
  }

  /**
   * Leases the second block, if there is one at once. Two calls could wait for each other's first.
   */
  #grow() {
    // A file that did not fill the first block has no more, most likely.
    if (!this.#mayGrow || this.#readyBytes < this.#blockBytes) return undefined
    this.#mayGrow = false
    return tryLease(this.#pool, this.#blockBytes)
  }

  /**
   * Returns whether other code has released a block that it was shown, and fails then.
   *
   * @param {Lease} lease
   */
  #isGone(lease) {
    if (!isOver(lease)) return false
    this.#fail(new AlreadyReleased(cacheOf(this.#pool).name, bufferOf(lease), 'block'))
    return true
  }

  /**
   * @param {Error | null} error
   * @param {number} bytesRead
   */
  #onRead = (error, bytesRead) => {
    const lease = /** @type {Lease} */ (this.#beingRead)
    this.#beingRead = undefined
    this.#underWay--
    if (this.#operation.isOver || error || bytesRead === 0) {
      giveBack(lease)
    } else {
      this.#ready = lease
      this.#readyBytes = bytesRead
    }
    if (!error && bytesRead === 0) this.#hasReadAll = true
    if (this.#operation.isOver) {
      this.#endIfIdle()
    } else if (error) {
      this.#fail(error)
    } else {
      if (this.#file.left === 0) this.#hasReadAll = true
      if (this.#hasReadAll) this.#close()
      this.#step()
    }
  }

  /** Closes the file. A write of the last block may still be under way. */
  #close() {
    this.#isClosed = true
    this.#releaseFree()
    this.#underWay++
    this.#file.close(() => {
      this.#underWay--
      if (this.#operation.isOver) this.#endIfIdle()
      else this.#step()
    })
  }

  /** @param {Lease} lease */
  #write(lease) {
    if (this.#isGone(lease)) return
    const length = this.#readyBytes
    // Without `subarray`, which other code may have patched.
    const bytes = bufferOver(arrayBufferOf(bufferOf(lease)), length)
    this.#ready = undefined
    this.#isWriting = true
    const lent = { lease }
    this.#lent = lent
    // Before the sink calls back.
    this.#total += length
    try {
      if (this.#sink.write(bytes, () => isOver(lease))) return
      // Asking the writable how it takes memory may have released the block.
      this.#isGone(lease)
    } catch (error) {
      this.#isWriting = false
      this.#total -= length
      this.#fail(error)
    }
    if (this.#lent === lent) this.#takeBack(true)
    if (this.#operation.isOver) this.#endIfIdle()
  }

  /**
   * Takes back the block that the writable was lent, if there is one.
   *
   * @param {boolean} isFree whether the writable certainly reads the block no more. A block that it
   *   may still read is left to the garbage collector, unless release detaches
   */
  #takeBack(isFree) {
    if (this.#lent === undefined) return
    const { lease } = this.#lent
    this.#lent = undefined
    if (isFree) this.#put(lease)
    else if (detaches(this.#pool)) giveBack(lease)
  }

  /**
   * @param {Error | null | undefined} error
   * @param {boolean} isFree
   */
  #onWritten = (error, isFree) => {
    // A writable may call back after it was closed.
    if (!this.#isWriting) return
    // After an error no write follows: the writable is about to be destroyed.
    this.#isWriting = Boolean(error)
    this.#takeBack(isFree)
    if (this.#operation.isOver) this.#endIfIdle()
    else if (!error) this.#step()
  }

  /** @param {Lease} lease that nobody uses */
  #put(lease) {
    const isNeeded = !this.#operation.isOver && !this.#isClosed && this.#free === undefined
    if (isNeeded) this.#free = lease
    else giveBack(lease)
  }

  #releaseFree() {
    if (this.#free !== undefined) giveBack(this.#free)
    this.#free = undefined
  }

  #succeed() {
    this.#operation.end()
    this.#sink.unwatch()
    this.#operation.resolve(this.#total)
  }

  /** @param {unknown} error */
  #fail = (error) => {
    const operation = this.#operation
    if (operation.isOver) return
    const hasWrittenAllRead = !this.#isWriting && this.#ready === undefined
    // A client that knows the length may leave when it has all, before the end of the file is read.
    const isServed = error instanceof PrematureClose && hasWrittenAllRead
    operation.end()
    this.#sink.unwatch()
    if (this.#ready !== undefined) giveBack(this.#ready)
    this.#ready = undefined
    operation.settleWhenIdle(
      (onIdle) => {
        this.#onIdle = onIdle
        this.#endIfIdle()
      },
      () => {
        if (isServed && this.#hasReadAll) operation.resolve(this.#total)
        else operation.reject(error)
      }
    )
  }

  /** Closes the file once no call needs it, and reports when nothing is under way any more. */
  #endIfIdle() {
    if (this.#underWay > 0) return
    if (!this.#isClosed) this.#close()
    // A peer may keep a block as long as it likes. The file is closed meanwhile.
    else if (this.#lent === undefined) this.#onIdle()
  }
}

addEntries(pumpFile)

module.exports = { pumpFile }
