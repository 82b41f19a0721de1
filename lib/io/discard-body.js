'use strict'

/**
 * Discards the rest of a body that is not read to its end. It must neither be read for ever, nor stand in
 * the way of an answer.
 */

const { table, weakTable } = require('../runtime/intrinsics')
const { now, setImmediate, setTimeout } = require('../runtime/timers')
const { SERVER, destroyWhenClosed } = require('./http2-reset')

const { get, set } = weakTable

/** @type {WeakMap<import('node:http2').Http2Session, Answers>} */
const answersBySession = new WeakMap()

/**
 * - A server's request stays open, for the answer. Over HTTP/1 what is still to come is read away, as
 *   Node does with a body that nobody reads: the next request lies behind it. That ends with the
 *   connection, or at the server's `requestTimeout`.
 * - Over HTTP/2 nothing lies behind it: it is read no further, and reset once the answer is out.
 * - Anything else is destroyed.
 *
 * @param {any} stream
 * @param {boolean} isRead whether Node takes it for one that somebody reads, and will not read it away
 */
function discardBody(stream, isRead) {
  if (stream.destroyed) return
  const core = stream.stream ?? stream
  if (core.session?.type === SERVER) {
    stream.pause()
    closeWhenAnswered(core)
  } else if (typeof stream.method === 'string') {
    if (isRead || stream.readableFlowing !== null) stream.resume()
  } else {
    destroy(stream)
  }
}

/** How long it takes, in ms, until the end of an answer is looked for again: twice as long each time, up to the last. */
const FIRST_LOOK = 10
const LAST_LOOK = 1000

/** HTTP/2's codes (RFC 9113, 7). */
const NO_ERROR = 0
const CANCEL = 8

/** How long the end of an answer may wait for its client to make room, in ms. */
const BOUND = 10_000

/**
 * Closes a stream once its answer is out.
 *
 * @param {import('node:http2').ServerHttp2Stream} stream
 */
function closeWhenAnswered(stream) {
  destroyWhenClosed(stream)
  // 'finish' comes before the frame that ends the answer: that goes out in this turn of the event loop, if at all.
  const onFinish = () => setImmediate(closeIfAnswered, stream)
  if (stream.writableFinished) onFinish()
  else stream.once('finish', onFinish)
}

/** @param {import('node:http2').ServerHttp2Stream} stream */
function closeIfAnswered(stream) {
  const { session } = stream
  if (stream.destroyed || session === undefined) return
  if (isAnswered(stream)) stream.close()
  else answersOf(session).add(stream)
}

/**
 * Whether the frame that ends the answer is out. No event tells that.
 *
 * @param {import('node:http2').ServerHttp2Stream} stream
 */
function isAnswered(stream) {
  return stream.destroyed || stream.state.localClose === 1
}

/** @type {(session: import('node:http2').Http2Session) => Answers} */
function answersOf(session) {
  const known = get(answersBySession, session)
  if (known !== undefined) return known
  const answers = new Answers()
  set(answersBySession, session, answers)
  return answers
}

/** Answers of one session that wait for room in its client's window, or in its socket: all with one timer. */
class Answers {
  /**
   * By when each has to be out.
   *
   * @type {Map<import('node:http2').ServerHttp2Stream, number>}
   */
  #deadlines = new Map()
  #delay = FIRST_LOOK
  /** @type {NodeJS.Timeout | undefined} */
  #timer

  /** @param {import('node:http2').ServerHttp2Stream} stream */
  add(stream) {
    table.set(this.#deadlines, stream, now() + BOUND)
    this.#timer ??= setTimeout(this.#look, this.#delay).unref()
  }

  #look = () => {
    const time = now()
    let left = 0
    const closeOrKeep = (/** @type {number} */ deadline, /** @type {any} */ stream) => {
      if (!isAnswered(stream) && time < deadline) {
        left++
        return
      }
      table.delete(this.#deadlines, stream)
      // What is not out by then is cut off, and must not pass for whole.
      stream.close(isAnswered(stream) ? NO_ERROR : CANCEL)
    }
    const lookAlone = (/** @type {number} */ deadline, /** @type {any} */ stream) => {
      try {
        closeOrKeep(deadline, stream)
      } catch {
        // The stream is the user's. The others are looked after all the same.
        table.delete(this.#deadlines, stream)
      }
    }
    table.forEach(this.#deadlines, lookAlone)
    this.#delay = left > 0 ? Math.min(2 * this.#delay, LAST_LOOK) : FIRST_LOOK
    this.#timer = left > 0 ? setTimeout(this.#look, this.#delay).unref() : undefined
  }
}

/** @param {import('node:stream').Readable} stream */
function destroy(stream) {
  // Why it is destroyed is known; what it says to that would end the process.
  const ignore = () => {}
  stream.on('error', ignore)
  stream.once('close', () => stream.removeListener('error', ignore))
  stream.destroy?.()
}

module.exports = { discardBody }
