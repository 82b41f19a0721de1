'use strict'

/**
 * What gives the pieces of a stream: one of Node's own Readables, which is asked for what it has, or any other async
 * iterable, which is asked for one piece after another.
 */

const { IncomingMessage } = require('node:http')
const { Readable, destroy: destroyByNode, finished } = /** @type {any} */ (require('node:stream'))
const { PrematureClose } = require('../pool/errors')
const { closeOff } = require('../runtime/intrinsics')
const { soon } = require('../runtime/timers')
const { discardBody } = require('./discard-body')
const { wasCutOff, watchReset } = require('./http2-reset')

/** A source that has nothing now, and calls back when that changes. */
const NOTHING_YET = Symbol('nothing yet')
/** A source that will have nothing more. */
const END = Symbol('end')

/**
 * @typedef {object} Source
 * @property {() => unknown} read the next piece, `NOTHING_YET` or `END`; throws what the source has failed with
 * @property {(callback: () => void) => void} stop ends it
 * @property {(callback: () => void) => void} discard ends it; a server's request stays open for its answer
 * @property {() => void} release reads no more, and leaves it as it is
 * @property {BufferEncoding} encoding of its strings
 */

/** By what Node iterates. */
const iterateByNode = Readable.prototype[Symbol.asyncIterator]

/**
 * Ends a stream as Node's own iterator does where its loop is left. From a server's request Node takes the connection
 * first, so that an answer can still be sent.
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
   * Whether it is over, and what it has failed with.
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
    // As late as Node's own iterator: a duplex that ends may be about to finish, and must not be destroyed before.
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
    // An http2 stream ends then, too, like one that is whole.
    const isCutOff = wasCutOff(readable)
    this.#end()
    if (isCutOff) throw new PrematureClose()
    return END
  }

  /** Lets go of the stream as Node's own iterator does. */
  #end() {
    const readable = this.#readable
    this.#unwatchReset()
    const isOver = this.#outcome !== undefined
    if (isOver && !readable._readableState?.autoDestroy) this.release()
    // Node destroys it with an error, which would have no listener: only a request keeps that to itself.
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
   * What has come, and was not read yet; at the end it stays.
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
      // It was to end.
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
 * @property {(hasEnded: boolean) => Promise<unknown>} stop also while `next` is under way
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
        // It was to end.
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
      // At once: a generator would wait for the piece that it was asked for.
      if (typeof iterable.destroy === 'function') iterable.destroy()
      await iterator.return?.()
    },
    // A generator of the user's goes on where it was.
    release: () => {},
    encoding: iterable.readableEncoding ?? 'utf8'
  }
}

/**
 * A Readable, a web stream or any other async iterable as a source, once it is begun; `undefined` for what is none.
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
 * Whether a stream is one that Node's own iterator would read.
 *
 * @param {any} stream
 */
function readsByNode(stream) {
  return stream instanceof Readable && stream[Symbol.asyncIterator] === iterateByNode
}

/**
 * Calls what may run other code, which concerns that alone.
 *
 * @param {() => unknown} callback
 */
function quietly(callback) {
  try {
    callback()
  } catch {
    // The stream is let go of all the same.
  }
}

module.exports = { END, NOTHING_YET, sourceOf }
