import type { PathLike } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import type { BufferPool, Lease, PooledBuffer } from '../..'

/**
 * Reads the whole body of a request into one pooled block. The caller releases the lease.
 * `lease.buffer` has exactly the body's length. Its bytes are those that came, not decompressed.
 * `req.trailers` has the trailers.
 *
 * Memory follows the bytes that have arrived. A body never holds more than four times those, or 64
 * KiB, whatever length it announces. A Content-Length, or `options.length`, only sizes the blocks
 * that it moves to: the last one fits it. Without either, each block is twice as large as the one
 * before.
 *
 * A body waits for its first block as {@link BufferPool.acquire} does, and its client waits with
 * it. A body of known length also waits for larger blocks. Meanwhile V8's memory holds its bytes,
 * and the pool gets the smaller block back. A body of unknown length gets a larger block at once,
 * from the pool or as `onExhausted` says, or is rejected. So bodies never wait for one another for
 * ever.
 *
 * When the promise is rejected, nothing stays leased:
 *
 * - A server's request stays open for the answer. Over HTTP/1, Node reads the rest of the body and
 *   discards it: answer with `connection: close` to end that together with the connection. Over
 *   HTTP/2, nothing more is read, and the stream is reset when the answer is out, at the latest 10
 *   s after the last byte of the answer.
 * - Any other stream is destroyed.
 *
 * Node answers `Expect: 100-continue`. In a listener for `'checkContinue'`, call
 * `res.writeContinue()` before or after this call.
 *
 * A client that resets an HTTP/2 stream before the end of its body has broken off, even if it sends
 * no error code.
 *
 * @param req a request of Node's `http`, `https` or `http2`, or of a framework on top of them; a
 *   client's response; or any other Readable of bytes or of strings. Strings become UTF-8
 * @throws {Error} `ERR_CISTERN_BODY_TOO_LARGE`, with a `statusCode` of 413: the Content-Length or
 *   `options.length` is above the limit, which is reported before anything is read, or more bytes
 *   than the limit have come
 * @throws {Error} `ERR_CISTERN_BODY_USED`: other code has read from `req`
 * @throws {Error} the error of `req`: `ECONNRESET` for a client that went away, or
 *   `ERR_STREAM_PREMATURE_CLOSE`
 * @throws {Error} `ERR_HTTP_CONTENT_LENGTH_MISMATCH`: the body is not as long as its Content-Length
 *   or `options.length`, or these two differ
 * @throws {Error} an `AbortError` with the code `ABORT_ERR`: the signal has fired
 * @throws {TypeError | RangeError} `ERR_INVALID_ARG_TYPE`, also for a chunk that is not bytes;
 *   `ERR_INVALID_ARG_VALUE` after `req.setEncoding()`; `ERR_OUT_OF_RANGE`
 * @throws the errors of {@link BufferPool.acquire} and {@link BufferPool.allocUnsafe}
 */
export function readBody(pool: BufferPool, req: Readable, options?: ReadBodyOptions): Promise<Lease>

export interface ReadBodyOptions {
  /** The longest body that is read, in bytes, or `Infinity`. Default: 16 MiB. */
  limit?: number | undefined
  /**
   * The exact length of the body in bytes, if you know it: for a stream without a Content-Length. A
   * body of another length is rejected. Default: the Content-Length, if there is one.
   */
  length?: number | undefined
  /** Ends the wait for memory and for the client. */
  signal?: AbortSignal | undefined
}

/**
 * Calls `res.end(buffer)`, and releases the buffer when the response has finished, failed or been
 * closed, and nothing reads the memory any more. From this call on, the buffer is not the caller's.
 *
 * Node sends the buffer without a copy over HTTP/1, HTTPS, HTTP/2 over TLS and sockets, and to
 * files. Other writables get a copy, and the buffer is released at once:
 *
 * - any writable that is not Node's own, is corked, or has methods of other code, such as those of
 *   express's `compression`
 * - a request that asks for a tunnel, or has an agent that is not Node's
 * - HTTP/2 without TLS, which may still send frames of a response that was reset
 *
 * A response that takes no body (HEAD, 204, 304, ended or destroyed already) does what it does in
 * Node. The buffer is released.
 *
 * @param res a response of Node's `http`, `https` or `http2` (fastify's `reply.raw`), a client's
 *   request, or any other Writable
 * @param buffer any view of a block that is leased from the pool, and that no other call of `end`
 *   still has
 * @returns `res`
 * @throws {TypeError} `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_CISTERN_NOT_POOLED`
 * @throws {Error} `ERR_CISTERN_ALREADY_RELEASED`
 * @throws the errors of `res.end`; then, too, the buffer is released when nothing reads the memory
 *   any more
 */
export function end<Res extends NodeJS.WritableStream>(
  pool: BufferPool,
  res: Res,
  buffer: Uint8Array
): Res

/**
 * Writes a file to a writable through two pooled blocks, as fast as the writable takes it. While
 * one block is written, the next read fills the other. The writable stays open, also after an
 * error.
 *
 * Compare the result with the length that you announced. A file may be cut short while it is sent.
 * Then `writable.end()` would leave a response that is shorter than its Content-Length on an open
 * connection, and the client would take the next response for the rest. Destroy the response
 * instead. A file may also grow: pass `end` where you announce a length.
 *
 * @returns the number of bytes written: fewer than the file had if it was cut short meanwhile
 * @throws {Error} the error of opening, reading or writing; an `AbortError` with the code
 *   `ABORT_ERR`. A block that the operating system still reads or writes stays leased until that
 *   has ended
 * @throws the errors of {@link BufferPool.acquire}
 */
export function pumpFile(
  pool: BufferPool,
  file: PathLike | FileHandle,
  writable: NodeJS.WritableStream,
  options?: PumpFileOptions
): Promise<number>

export interface PumpFileOptions {
  /** The most bytes that are read and written at a time. Default: 256 KiB. */
  chunkSize?: number | undefined
  /** Ends the call. */
  signal?: AbortSignal | undefined
  /** The position of the first byte. Default: 0, also for a FileHandle with another position. */
  start?: number | undefined
  /** The position of the last byte, which is included. Default: the last byte of the file. */
  end?: number | undefined
}

/**
 * A piece of a stream or an async iterable. Strings become UTF-8, or bytes in the stream's
 * encoding.
 */
export type ChunkSource = string | ArrayBufferLike | NodeJS.ArrayBufferView

/**
 * Returns an async iterator over the bytes of a file, a Readable, a web stream or any other async
 * iterable. Each chunk is a pooled Buffer. The next step of the loop releases it, and so do `break`
 * and `throw`. To keep a chunk, copy it, or transfer its ArrayBuffer, as `postMessage(chunk,
 * [chunk.buffer])` does. Then the new owner releases it.
 *
 * Pieces that a Readable gives in one event-loop turn share a chunk, as far as there is room.
 *
 * When the loop is left by `break`, `throw`, an error or the signal, a stream ends as in Node's own
 * iterator. So a server's request is destroyed, but its connection stays, and you can still answer.
 *
 * When more bytes than the limit come, the request is not destroyed but treated as by {@link
 * readBody}. So a client gets the answer even while it goes on sending. If you read an HTTP/2
 * stream, and not its request, only the limit leaves an answer possible.
 *
 * An iterator that is dropped without `return()` gives its block back when the garbage collector
 * finds it. It then closes the file that it opened, and removes its listeners. A FileHandle, a
 * stream or a generator of yours stays open.
 *
 * @throws {Error} `ERR_CISTERN_BODY_TOO_LARGE`, with a `statusCode` of 413: the Content-Length is
 *   above the limit, which is reported before anything is read, or more bytes than the limit have
 *   come
 * @throws the errors of {@link pumpFile} and of the source; `ERR_STREAM_PREMATURE_CLOSE` for an
 *   HTTP/2 stream that was reset
 * @throws {TypeError} `ERR_INVALID_ARG_TYPE` for a piece that is not bytes; `ERR_INVALID_ARG_VALUE`
 *   for a piece whose memory was taken away before all of it was copied
 */
export function chunks(
  pool: BufferPool,
  source: PathLike | FileHandle | Readable | ReadableStream | AsyncIterable<ChunkSource>,
  options?: ChunksOptions
): AsyncGenerator<PooledBuffer, void, void>

export interface ChunksOptions {
  /**
   * The most bytes of a chunk. Default: 256 KiB for a file. For a stream 64 KiB, and up to 256 KiB
   * while it fills its chunks.
   */
  chunkSize?: number | undefined
  /** The most bytes in all, or `Infinity`. Default: `Infinity`. */
  limit?: number | undefined
  /** Ends the iteration. */
  signal?: AbortSignal | undefined
}

/**
 * Returns the `onread` option for `net.connect`, and for `tls.connect` where that makes the
 * connection. (If you pass `tls.connect` a `socket`, Node ignores `onread`.) The socket reads into
 * one pooled block again and again, and emits no `'data'`.
 *
 * Each socket has a block of its own, from its first bytes until it is closed. So a socket that
 * never connects leases nothing, and several sockets may share the option. When the pool has no
 * memory, the socket is destroyed with the pool's error.
 *
 * @param callback called with the number of bytes read and the Buffer that begins with them. The
 *   bytes stay there until the callback returns. Neither release nor keep that Buffer. `false`
 *   pauses the socket
 * @throws {TypeError | RangeError} `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`,
 *   `ERR_OUT_OF_RANGE`
 */
export function onread(
  pool: BufferPool,
  options: OnReadOptions,
  callback: OnReadCallback
): {
  buffer(): Uint8Array
  callback(this: Socket, length: number, bytes: Uint8Array): boolean
}

export interface OnReadOptions {
  /** The most bytes that are read at a time. Default: 64 KiB. */
  size?: number | undefined
}

export type OnReadCallback = (
  this: Socket,
  length: number,
  buffer: PooledBuffer
  // biome-ignore lint/suspicious/noConfusingVoidType: every value but `false` goes on
) => boolean | void
