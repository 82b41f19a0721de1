'use strict'

/**
 * The pieces of a stream. One of Node's own Readables gives what it has; any other async iterable
 * gives one piece after another.
 */

const { IncomingMessage } = require('node:http')
const { Readable, destroy: destroyByNode, finished } = /** @type {any} */ (require('node:stream'))
const { PrematureClose } = require('../pool/errors')
const { closeOff } = require('../runtime/intrinsics')
const { soon } = require('../runtime/timers')
const { discardBody } = require('./discard-body')
const { wasCutOff, watchReset } = require('./http2-reset')
const { quietly } = require('./operation')

/** Read from a source that has no piece now. It calls back when that changes. */
const NOTHING_YET = Symbol('nothing yet')
/** Read from a source after its last piece. */
const END = Symbol('end')

/**
 * @typedef {object} Source
 * @property {() => unknown} read returns the next piece, `NOTHING_YET` or `END`; throws the
 *   source's error
 * @property {(callback: () => void) => void} stop ends the source
 * @property {(callback: () => void) => void} discard ends the source; a server's request stays open
 *   for its answer
 * @property {() => void} release reads no more, and leaves the source as it is
 * @property {BufferEncoding} encoding of the source's strings
 */

/** Node's own iterator. */
const iterateByNode = Readable.prototype[Symbol.asyncIterator]

/**
 * Ends a stream as Node's own iterator does when its loop is left. Node takes the connection from a
 * server's request first, so that an answer can still be sent.
 *
 * @type {(stream: any) => void}
 */
const destroy = destroyByNode ?? ((readable) => readable.destroy())

/** @implements {Source} */
class ReadableSource {
  #readable
  #onChange
  #isListening = false
  #unwatchReset = () => {}
  #unlisten = () => {}
  /**
   * Set when the stream is over, with the error that it has failed with.
   *
   * @type {{ error: unknown } | undefined}
   */
  #outcome

  /**
   * @param {any} readable one of Node's own Readables
   * @param {() => void} onChange
   */
  constructor(readable, onChange) {
    this.#readable = readable
    this.#onChange = onChange
    this.encoding = readable.readableEncoding ?? 'utf8'
  }

  #listen() {
    const readable = this.#readable
    this.#isListening = true
    this.#unwatchReset = watchReset(readable)
    readable.on('readable', this.#onChange)
    this.#unlisten = finished(readable, { writable: false }, this.#onFinished)
  }

  /** @param {unknown} [error] */
  #onFinished = (error) => {
    this.#outcome = { error }
    // As late as Node's own iterator: a duplex that ends may be about to finish, and MUST NOT be
    // destroyed before that.
    soon(this.#onChange)
  }

  read() {
    const readable = this.#readable
    if (!this.#isListening) this.#listen()
    const piece = readable.destroyed ? null : readable.read()
    if (piece !== null) return piece
    const outcome = this.#outcome
    if (outcome === undefined) return NOTHING_YET
    if (outcome.error) throw outcome.error
    // An http2 stream that was cut off ends like a whole one.
    const isCutOff = wasCutOff(readable)
    this.#end()
    if (isCutOff) throw new PrematureClose()
    return END
  }

  /** Ends the stream as Node's own iterator does. */
  #end() {
    const readable = this.#readable
    this.#unwatchReset()
    const isOver = this.#outcome !== undefined
    if (isOver && !readable._readableState?.autoDestroy) this.release()
    // Node's function destroys it with an error, which would have no listener. Only a request does
    // not emit that.
    else if (!this.#isListening && !(readable instanceof IncomingMessage)) readable.destroy()
    else destroy(readable)
  }

  /** @param {() => void} callback */
  stop(callback) {
    quietly(() => this.#end())
    callback()
  }

  /** @param {() => void} callback */
  discard(callback) {
    this.release()
    quietly(() => discardBody(this.#readable, true))
    callback()
  }

  release() {
    this.#unwatchReset()
    quietly(() => this.#readable.removeListener('readable', this.#onChange))
    quietly(this.#unlisten)
  }
}

/** @implements {Source} */
class IterableSource {
  #pieces
  #onChange
  #isAsked = false
  /**
   * The result that was not read yet. The last one stays.
   *
   * @type {{ value: unknown, isEnd: boolean, isError: boolean } | undefined}
   */
  #result

  /**
   * @param {Pieces} pieces
   * @param {() => void} onChange
   */
  constructor(pieces, onChange) {
    this.#pieces = pieces
    this.#onChange = onChange
    this.encoding = pieces.encoding
  }

  read() {
    const result = this.#result
    if (result === undefined) {
      if (!this.#isAsked) this.#ask()
      return NOTHING_YET
    }
    if (result.isError) throw result.value
    if (result.isEnd) return END
    this.#result = undefined
    return result.value
  }

  async #ask() {
    this.#isAsked = true
    try {
      const { done, value } = await this.#pieces.next()
      this.#result = { value, isEnd: Boolean(done), isError: false }
    } catch (error) {
      this.#result = { value: error, isEnd: true, isError: true }
    }
    this.#isAsked = false
    this.#onChange()
  }

  /** @param {() => void} callback */
  async stop(callback) {
    try {
      await this.#pieces.stop(this.#result?.isEnd === true)
    } catch {
      // The source ends all the same.
    }
    callback()
  }

  /** @param {() => void} callback */
  discard(callback) {
    this.stop(callback)
  }

  release() {
    quietly(() => this.#pieces.release())
  }
}

closeOff(ReadableSource)
closeOff(IterableSource)

/**
 * @typedef {object} Pieces
 * @property {() => Promise<IteratorResult<unknown>>} next
 * @property {(hasEnded: boolean) => Promise<unknown>} stop may be called while `next` is under way
 * @property {() => void} release
 * @property {BufferEncoding} encoding
 */

/**
 * @param {import('node:stream/web').ReadableStream} stream
 * @returns {Pieces}
 */
function piecesOfWeb(stream) {
  const reader = stream.getReader()
  return {
    next: () => /** @type {Promise<any>} */ (reader.read()),
    stop: async () => {
      try {
        await reader.cancel()
      } catch {
        // The stream ends all the same.
      }
      reader.releaseLock()
    },
    release: () => reader.releaseLock(),
    encoding: 'utf8'
  }
}

/**
 * @param {any} iterable
 * @returns {Pieces}
 */
function piecesOfIterable(iterable) {
  const iterator = iterable[Symbol.asyncIterator]()
  return {
    next: () => iterator.next(),
    stop: async (hasEnded) => {
      if (hasEnded) return
      // At once: `return` of a generator would wait for the piece that it was asked for.
      if (typeof iterable.destroy === 'function') iterable.destroy()
      await iterator.return?.()
    },
    // The user's generator stays where it is.
    release: () => {},
    encoding: iterable.readableEncoding ?? 'utf8'
  }
}

/**
 * Returns a function that makes a source of a Readable, a web stream or any other async iterable;
 * `undefined` for anything else.
 *
 * @param {any} stream
 * @returns {((onChange: () => void) => Source) | undefined}
 */
function sourceOf(stream) {
  if (readsByNode(stream)) return (onChange) => new ReadableSource(stream, onChange)
  const piecesOf = piecesFor(stream)
  if (piecesOf === undefined) return undefined
  return (onChange) => new IterableSource(piecesOf(stream), onChange)
}

/** @param {any} stream */
function piecesFor(stream) {
  if (typeof stream?.getReader === 'function') return piecesOfWeb
  return typeof stream?.[Symbol.asyncIterator] === 'function' ? piecesOfIterable : undefined
}

/**
 * Returns whether Node's own iterator would read a stream.
 *
 * @param {any} stream
 */
function readsByNode(stream) {
  return stream instanceof Readable && stream[Symbol.asyncIterator] === iterateByNode
}

module.exports = { END, NOTHING_YET, sourceOf }
