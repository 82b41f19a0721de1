'use strict'

/**
 * Discards the rest of a body that is not read to its end. It MUST NOT be read for ever, and MUST
 * NOT block the answer.
 */

const { table, weakTable } = require('../runtime/intrinsics')
const { now, setImmediate, setTimeout } = require('../runtime/timers')
const { SERVER, destroyWhenClosed } = require('./http2-reset')

const { get, set } = weakTable

/** @type {WeakMap<import('node:http2').Http2Session, Answers>} */
const answersBySession = new WeakMap()

/**
 * Discards the rest of a stream:
 *
 * - A server's request stays open for the answer. Over HTTP/1 the rest is read and discarded, as
 *   Node does with a body that nobody reads: the next request follows it. The end of the
 *   connection, or the server's `requestTimeout`, ends that.
 * - Over HTTP/2 nothing follows the rest. It is not read, and the stream is reset when the answer
 *   is out.
 * - Any other stream is destroyed.
 *
 * @param {any} stream
 * @param {boolean} isRead whether Node believes that somebody reads the stream, and will not
 *   discard it
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

/**
 * The delays, in ms, before the next look for the end of an answer: each is twice the one before.
 */
const FIRST_LOOK = 10
const LAST_LOOK = 1000

/** HTTP/2's codes (RFC 9113, 7). */
const NO_ERROR = 0
const CANCEL = 8

/** The longest time that the end of an answer may wait for room in its client, in ms. */
const BOUND = 10_000

/**
 * Closes a stream as soon as its answer is out.
 *
 * @param {import('node:http2').ServerHttp2Stream} stream
 */
function closeWhenAnswered(stream) {
  destroyWhenClosed(stream)
  // 'finish' comes before the frame that ends the answer. If there is room for that frame, it goes
  // out in this event-loop turn.
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
 * Returns whether the frame that ends the answer is out. No event shows that.
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

/**
 * Answers of one session that wait for room in the client's window or the socket. They share one
 * timer.
 */
class Answers {
  /**
   * The time by which each answer has to be out.
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
    const closeOrLeave = (/** @type {number} */ deadline, /** @type {any} */ stream) => {
      if (!isAnswered(stream) && time < deadline) {
        left++
        return
      }
      table.delete(this.#deadlines, stream)
      // An answer that is not out by then is cut off, and MUST NOT pass for a whole one.
      stream.close(isAnswered(stream) ? NO_ERROR : CANCEL)
    }
    const lookAlone = (/** @type {number} */ deadline, /** @type {any} */ stream) => {
      try {
        closeOrLeave(deadline, stream)
      } catch {
        // The stream is the user's. The others go on all the same.
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
  // The caller knows the reason. An unhandled 'error' event would crash the process.
  const ignore = () => {}
  stream.on('error', ignore)
  stream.once('close', () => stream.removeListener('error', ignore))
  stream.destroy?.()
}

module.exports = { discardBody }
