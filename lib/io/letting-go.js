'use strict'

/**
 * What becomes of a stream that is not read to its end. It must neither be read for ever, nor stand in
 * the way of an answer.
 */

/** What `session.type` of a server's is: http2's NGHTTP2_SESSION_SERVER. */
const SERVER = 0

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
function letGo(stream, isRead) {
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

/** How often it is looked whether an answer is out, in ms. */
const LOOK = 10

/** @param {import('node:http2').Http2Stream} stream */
function closeWhenAnswered(stream) {
  const look = () => {
    if (stream.destroyed) return
    // 'finish' comes before the frame that ends the answer, and nothing comes after it.
    if (!stream.state.localClose) {
      setTimeout(look, LOOK).unref()
      return
    }
    stream.close()
    // What it still has goes, too: a stream that is not read to its end is never done with.
    stream.resume()
  }
  if (stream.writableFinished) look()
  else stream.once('finish', look)
}

/** @param {import('node:stream').Readable} stream */
function destroy(stream) {
  // Why it is destroyed is known; what it says to that would end the process.
  const ignore = () => {}
  stream.on('error', ignore)
  stream.once('close', () => stream.removeListener('error', ignore))
  stream.destroy?.()
}

module.exports = { letGo }
