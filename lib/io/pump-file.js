'use strict'

/**
 * A file to a writable through two blocks: while one is being written, the other is read into.
 *
 *   free ──▶ being read into ──▶ ready ──▶ being written ──▶ free
 *
 * A block MUST NOT be released while it is being read into or written from.
 */

const { Abort, InvalidArgType, PrematureClose } = require('../errors')
const { checkInteger, checkOptions, checkPool, checkSignal, checkWritable } = require('./checks')
const { leaseAtOnce } = require('./lease-at-once')
const { Outlet } = require('./outlet')
const { afterPatience } = require('./patience')
const { LARGEST_READ, SourceFile, checkRange, isPath } = require('./source-file')

/**
 * Measured with 8 MiB files at 20 connections: half of it costs a third more CPU, twice of it saves a tenth
 * and doubles what each slow client keeps leased.
 */
const CHUNK_BYTES = 256 * 1024

/**
 * @typedef {import('node:fs').PathLike} PathLike
 * @typedef {import('node:fs/promises').FileHandle} FileHandle
 * @typedef {object} PumpOptions
 * @property {number} [start] the first byte; 0 by default
 * @property {number} [end] the last byte; that of the file by default
 * @property {number} [chunkSize] how much is read and written at a time; 256 KiB by default
 * @property {AbortSignal} [signal]
 */

/**
 * @param {import('../buffer-pool').BufferPool} pool
 * @param {PathLike | FileHandle} file
 * @param {import('node:stream').Writable} writable
 * @param {PumpOptions} [options]
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
  if (signal?.aborted) throw new Abort(signal.reason)
  return new Pump(pool, new SourceFile(file, start, end), writable, chunkSize, signal).run()
}

class Pump {
  #pool
  #file
  #outlet
  #blockBytes
  #signal
  /** Ends the wait for a block. */
  #waiting = new AbortController()

  /** @type {Buffer | undefined} */
  #free
  /** @type {Buffer | undefined} */
  #beingRead
  /** @type {Buffer | undefined} */
  #ready
  #readyBytes = 0
  /** @type {Buffer | undefined} */
  #lent

  #isWriting = false
  /** Whether the file is not read any more. */
  #isClosed = false
  /** Whether there is only one block, and it is not known that there is no room for another. */
  #mayGrow = true
  /** Whether nothing new is begun any more. */
  #isOver = false
  #hasReadAll = false
  /** Whether the writable was closed with all that was read written. */
  #isServed = false
  /** How much is under way that needs the file. */
  #underWay = 0
  #total = 0

  /** @type {(total: number) => void} */
  #resolve = () => {}
  /** @type {(error: unknown) => void} */
  #reject = () => {}
  /** @type {unknown} */
  #error
  /** @type {NodeJS.Timeout | undefined} */
  #timer

  /**
   * @param {import('../buffer-pool').BufferPool} pool
   * @param {SourceFile} file
   * @param {import('node:stream').Writable} writable
   * @param {number} chunkSize
   * @param {AbortSignal | undefined} signal not aborted yet
   */
  constructor(pool, file, writable, chunkSize, signal) {
    this.#pool = pool
    this.#file = file
    this.#outlet = new Outlet(writable, this.#onWritten, this.#onDeath)
    this.#blockBytes = Math.min(chunkSize, file.left)
    this.#signal = signal
  }

  /** @returns {Promise<number>} */
  run() {
    this.#outlet.watch()
    try {
      this.#signal?.addEventListener('abort', this.#onAbort)
    } catch (error) {
      // The signal is the user's.
      this.#outlet.unwatch()
      throw error
    }
    return new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
      this.#underWay++
      this.#file.open(this.#onOpen)
    })
  }

  /** @param {Error | null} error */
  #onOpen = (error) => {
    this.#underWay--
    if (this.#isOver) this.#endIfQuiet()
    else if (error) this.#fail(error)
    else this.#acquire()
  }

  #acquire() {
    this.#pool.acquire(this.#blockBytes, { signal: this.#waiting.signal }).then(
      (block) => {
        this.#put(block)
        this.#step()
      },
      (error) => this.#fail(error)
    )
  }

  /** Begins whatever can be begun. */
  #step() {
    if (this.#ready !== undefined && !this.#isWriting) this.#write(this.#ready)
    if (this.#isOver || this.#ready !== undefined || this.#beingRead !== undefined) return
    if (!this.#isClosed) this.#read()
    else if (!this.#isWriting && this.#underWay === 0) this.#succeed()
  }

  #read() {
    const block = this.#free ?? this.#grow()
    if (block === undefined) return
    this.#free = undefined
    this.#beingRead = block
    this.#underWay++
    this.#file.read(block, this.#onRead)
  }

  /** The second block. Who waits for one could wait for another that does the same. */
  #grow() {
    // The rest of a file that did not fill the first block is nothing, most likely.
    if (!this.#mayGrow || this.#readyBytes < this.#blockBytes) return undefined
    this.#mayGrow = false
    return leaseAtOnce(this.#pool, this.#blockBytes)
  }

  /**
   * @param {Error | null} error
   * @param {number} bytesRead
   */
  #onRead = (error, bytesRead) => {
    const block = /** @type {Buffer} */ (this.#beingRead)
    this.#beingRead = undefined
    this.#underWay--
    if (this.#isOver || error || bytesRead === 0) {
      this.#pool.release(block)
    } else {
      this.#ready = block
      this.#readyBytes = bytesRead
    }
    if (!error && bytesRead === 0) this.#hasReadAll = true
    if (this.#isOver) {
      this.#endIfQuiet()
    } else if (error) {
      this.#fail(error)
    } else {
      if (this.#file.left === 0) this.#hasReadAll = true
      if (this.#hasReadAll) this.#close()
      this.#step()
    }
  }

  /** Lets go of the file; the last block may still be being written. */
  #close() {
    this.#isClosed = true
    this.#releaseFree()
    this.#underWay++
    this.#file.close(() => {
      this.#underWay--
      if (this.#isOver) this.#endIfQuiet()
      else this.#step()
    })
  }

  /** @param {Buffer} block */
  #write(block) {
    const length = this.#readyBytes
    const bytes = length === block.length ? block : block.subarray(0, length)
    this.#ready = undefined
    this.#isWriting = true
    let isLent = false
    try {
      isLent = this.#outlet.write(bytes)
      this.#total += length
    } catch (error) {
      this.#isWriting = false
      this.#pool.release(block)
      this.#fail(error)
      return
    }
    if (isLent) {
      this.#lent = block
    } else {
      this.#put(block)
    }
  }

  /** @param {Error | null} [error] */
  #onWritten = (error) => {
    // It may call back after it was closed.
    if (!this.#isWriting) return
    // After an error it stays so: the writable is about to die.
    this.#isWriting = Boolean(error)
    const block = this.#lent
    if (block !== undefined) {
      this.#lent = undefined
      this.#put(block)
    }
    if (this.#isOver) this.#endIfQuiet()
    else if (!error) this.#step()
  }

  /**
   * @param {Error} error
   * @param {boolean} isDone
   */
  #onDeath = (error, isDone) => {
    if (isDone) this.#onWritten(error)
    this.#fail(error)
  }

  #onAbort = () => this.#fail(new Abort(this.#signal?.reason))

  /** @param {Buffer} block that nobody uses */
  #put(block) {
    const isNeeded = !this.#isOver && !this.#isClosed && this.#free === undefined
    if (isNeeded) this.#free = block
    else this.#pool.release(block)
  }

  #releaseFree() {
    if (this.#free !== undefined) this.#pool.release(this.#free)
    this.#free = undefined
  }

  #succeed() {
    this.#isOver = true
    this.#unlisten()
    this.#resolve(this.#total)
  }

  /** @param {unknown} error */
  #fail(error) {
    if (this.#isOver) return
    this.#isOver = true
    this.#error = error
    // A client that knows the length leaves when it has all: before the end of the file is read, perhaps.
    const isClosed = error instanceof PrematureClose
    this.#isServed = isClosed && !this.#isWriting && this.#ready === undefined
    this.#unlisten()
    this.#waiting.abort()
    if (this.#ready !== undefined) this.#pool.release(this.#ready)
    this.#ready = undefined
    this.#timer = afterPatience(() => this.#reject(error))
    this.#endIfQuiet()
  }

  /** Settles what has failed, once nothing is under way any more. */
  #endIfQuiet() {
    if (this.#underWay > 0) return
    if (!this.#isClosed) {
      this.#close()
      return
    }
    // It may be lent for as long as the peer likes: the file is closed meanwhile.
    if (this.#lent !== undefined) return
    clearTimeout(this.#timer)
    if (this.#isServed && this.#hasReadAll) this.#resolve(this.#total)
    else this.#reject(this.#error)
  }

  #unlisten() {
    this.#outlet.unwatch()
    this.#signal?.removeEventListener('abort', this.#onAbort)
  }
}

module.exports = { pumpFile }
