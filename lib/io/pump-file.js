'use strict'

/**
 * A file to a writable through two blocks: while one is being written, the other is read into.
 *
 *   free ──▶ being read into ──▶ ready ──▶ being written ──▶ free
 *
 * A block MUST NOT be released while it is being read into or written from.
 */

const { addEntries } = require('../cache/call-site')
const { cacheOf, requestLease } = require('../pool/buffer-pool')
const { Abort, AlreadyReleased, InvalidArgType, PrematureClose } = require('../pool/errors')
const { bufferOf, endLease, isOver } = require('../pool/lease')
const { OwnPromise, arrayBufferOf, bufferOver } = require('../runtime/intrinsics')
const { clearTimeout } = require('../runtime/timers')
const { checkInteger, checkOptions, checkPool, checkSignal, checkWritable } = require('./checks')
const { detaches } = require('./detaches')
const { tryLease } = require('./try-lease')
const { Sink } = require('./sink')
const { afterGracePeriod } = require('./grace-period')
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
 * @param {import('../pool/buffer-pool').BufferPool} pool
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
  #sink
  #blockBytes
  #signal
  /** Ends the wait for a block. */
  #cancel = () => {}

  /** @type {import('../pool/lease').Lease | undefined} */
  #free
  /** @type {import('../pool/lease').Lease | undefined} */
  #beingRead
  /** @type {import('../pool/lease').Lease | undefined} */
  #ready
  #readyBytes = 0
  /**
   * The write that has a block, or may have.
   *
   * @type {{ lease: import('../pool/lease').Lease } | undefined}
   */
  #loan

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
   * @param {import('../pool/buffer-pool').BufferPool} pool
   * @param {SourceFile} file
   * @param {import('node:stream').Writable} writable
   * @param {number} chunkSize
   * @param {AbortSignal | undefined} signal not aborted yet
   */
  constructor(pool, file, writable, chunkSize, signal) {
    this.#pool = pool
    this.#file = file
    this.#sink = new Sink(writable, this.#onWritten, this.#onDeath)
    this.#blockBytes = Math.min(chunkSize, file.left)
    this.#signal = signal
  }

  /** @returns {Promise<number>} */
  run() {
    return new OwnPromise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
      try {
        this.#sink.watch()
        this.#signal?.addEventListener('abort', this.#onAbort)
        // It may have fired before anyone listened.
        if (this.#signal?.aborted) this.#onAbort()
      } catch (error) {
        // The writable and the signal are the user's.
        this.#fail(error)
      }
      if (this.#isOver) {
        // Over before all was listened to.
        this.#unlisten()
        return
      }
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
    const cancel = requestLease(this.#pool, this.#blockBytes, this.#onLease, this.#onRefused)
    if (this.#isOver) cancel()
    else this.#cancel = cancel
  }

  /** @param {import('../pool/lease').Lease} lease */
  #onLease = (lease) => {
    this.#put(lease)
    if (!this.#isOver) this.#step()
  }

  /** @param {unknown} error */
  #onRefused = (error) => this.#fail(error)

  /** Begins whatever can be begun. */
  #step() {
    if (this.#ready !== undefined && !this.#isWriting) this.#write(this.#ready)
    if (this.#isOver || this.#ready !== undefined || this.#beingRead !== undefined) return
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

  /** The second block. Who waits for one could wait for another that does the same. */
  #grow() {
    // The rest of a file that did not fill the first block is nothing, most likely.
    if (!this.#mayGrow || this.#readyBytes < this.#blockBytes) return undefined
    this.#mayGrow = false
    const lease = tryLease(this.#pool, this.#blockBytes)
    return lease
  }

  /**
   * Whether other code has released a block of ours, which it was shown: then that is an error.
   *
   * @param {import('../pool/lease').Lease} lease
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
    const lease = /** @type {import('../pool/lease').Lease} */ (this.#beingRead)
    this.#beingRead = undefined
    this.#underWay--
    if (this.#isOver || error || bytesRead === 0) {
      giveBack(lease)
    } else {
      this.#ready = lease
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

  /** @param {import('../pool/lease').Lease} lease */
  #write(lease) {
    if (this.#isGone(lease)) return
    const length = this.#readyBytes
    // A view by our own means: other code has patched `subarray`, perhaps.
    const bytes = bufferOver(arrayBufferOf(bufferOf(lease)), length)
    this.#ready = undefined
    this.#isWriting = true
    const loan = { lease }
    this.#loan = loan
    // Before it calls back.
    this.#total += length
    try {
      if (this.#sink.write(bytes, () => isOver(lease))) return
      // The writable was asked how it takes memory: that may have released it.
      this.#isGone(lease)
    } catch (error) {
      this.#isWriting = false
      this.#total -= length
      this.#fail(error)
    }
    if (this.#loan === loan) this.#takeBack(true)
    if (this.#isOver) this.#endIfQuiet()
  }

  /**
   * Ends the loan of a block, if there is one.
   *
   * @param {boolean} isFree whether it is known that the writable will not read it any more. Otherwise the next owner's
   *   bytes could be sent, where release leaves the ArrayBuffer as it is: so there the collector finds it
   */
  #takeBack(isFree) {
    if (this.#loan === undefined) return
    const { lease } = this.#loan
    this.#loan = undefined
    if (isFree) this.#put(lease)
    else if (detaches(this.#pool)) giveBack(lease)
  }

  /**
   * @param {Error | null | undefined} error
   * @param {boolean} isFree
   */
  #onWritten = (error, isFree) => {
    // It may call back after it was closed.
    if (!this.#isWriting) return
    // After an error it stays so: the writable is about to die.
    this.#isWriting = Boolean(error)
    this.#takeBack(isFree)
    if (this.#isOver) this.#endIfQuiet()
    else if (!error) this.#step()
  }

  /** @param {Error} error */
  #onDeath = (error) => this.#fail(error)

  #onAbort = () => this.#fail(new Abort(this.#signal?.reason))

  /** @param {import('../pool/lease').Lease} lease that nobody uses */
  #put(lease) {
    const isNeeded = !this.#isOver && !this.#isClosed && this.#free === undefined
    if (isNeeded) this.#free = lease
    else giveBack(lease)
  }

  #releaseFree() {
    if (this.#free !== undefined) giveBack(this.#free)
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
    this.#cancel()
    if (this.#ready !== undefined) giveBack(this.#ready)
    this.#ready = undefined
    this.#timer = afterGracePeriod(() => this.#reject(error))
    this.#endIfQuiet()
  }

  /** Settles what has failed, once nothing is under way any more. */
  #endIfQuiet() {
    if (this.#underWay > 0) return
    if (!this.#isClosed) {
      this.#close()
      return
    }
    // A block may be lent for as long as the peer likes: the file is closed meanwhile.
    if (this.#loan !== undefined) return
    clearTimeout(this.#timer)
    if (this.#isServed && this.#hasReadAll) this.#resolve(this.#total)
    else this.#reject(this.#error)
  }

  #unlisten() {
    this.#sink.unwatch()
    try {
      this.#signal?.removeEventListener('abort', this.#onAbort)
    } catch {
      // The outcome is told all the same.
    }
  }
}

/** @param {import('../pool/lease').Lease} lease */
function giveBack(lease) {
  try {
    endLease(lease)
  } catch {
    // Marked as untransferable by code that was shown it: it comes back when it is collected.
  }
}

addEntries(pumpFile)

module.exports = { pumpFile }
