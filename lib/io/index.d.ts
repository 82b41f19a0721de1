import type { PathLike } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import type { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import type { BufferPool, Lease, PooledBuffer } from '../..'

/**
 * The whole body of a request in one pooled block, which is the caller's to release. `lease.buffer` has
 * exactly the body's length; it is what came, not decompressed. Trailers are at `req.trailers`.
 *
 * A Content-Length, or `options.length`, sizes the block. It reserves no memory: a body never holds more than
 * four times what has arrived, or 64 KiB. It moves to larger blocks as it grows, up to the one that fits it. Of a
 * body with neither, each block is twice as large as the one before.
 *
 * A body waits for its first block as {@link BufferPool.acquire} does, and the client with it. One of a known
 * length waits for its larger blocks, too. Meanwhile V8's memory holds the bytes that have arrived, and the pool has
 * the smaller block back. One of unknown length gets them at once or not at all (as `onExhausted` has it). So bodies
 * never wait for one another for ever.
 *
 * Where it is rejected nothing stays leased, and `req` is let go of:
 *
 * - A server's request is open for the answer. Over HTTP/1 what is still to come is read away: to end
 *   that, and the connection, answer with `connection: close`. Over HTTP/2 it is read no further, and
 *   reset when the answer is out, at the latest 10 s after its last byte.
 * - Any other stream is destroyed.
 *
 * `Expect: 100-continue` is Node's to answer, or in `checkContinue` the caller's with
 * `res.writeContinue()`, before or after this call.
 *
 * A client that resets an HTTP/2 stream before it has sent all is one that broke off, also without an error code.
 *
 * @param req a request, of Node's `http`, `https`, `http2`, or of a framework on top of them; a client's
 *   response; or any other Readable of bytes, or of strings, which are taken as UTF-8
 * @throws {Error} `ERR_CISTERN_BODY_TOO_LARGE`, with a `statusCode` of 413: by its Content-Length or
 *   `options.length`, before anything is read, or when more than the limit has come
 * @throws {Error} `ERR_CISTERN_BODY_USED`: something else has read from it
 * @throws {Error} what `req` failed with, `ECONNRESET` for a client that went away, or
 *   `ERR_STREAM_PREMATURE_CLOSE`; `ERR_HTTP_CONTENT_LENGTH_MISMATCH` where Node did not see to that, and
 *   for a body that has not the `options.length`, or has another Content-Length
 * @throws {Error} an `AbortError`, with code `ABORT_ERR`: the signal fired
 * @throws {TypeError | RangeError} `ERR_INVALID_ARG_TYPE`, also for a chunk that is no bytes;
 *   `ERR_INVALID_ARG_VALUE` after `req.setEncoding()`; `ERR_OUT_OF_RANGE`
 * @throws as {@link BufferPool.acquire} and {@link BufferPool.allocUnsafe}
 */
export function readBody(pool: BufferPool, req: Readable, options?: ReadBodyOptions): Promise<Lease>

export interface ReadBodyOptions {
  /** The longest body that is read, in bytes, or `Infinity`. Default: 16 MiB. */
  limit?: number | undefined
  /**
   * The length of the body in bytes, where the caller knows it: of a stream that has no Content-Length. A body
   * of another length is rejected.
   */
  length?: number | undefined
  /** Ends the wait, for memory or for the client. */
  signal?: AbortSignal | undefined
}

/**
 * `res.end(buffer)`, and the release of the buffer: once, when the response has finished, failed or
 * been closed, and nothing reads the memory any more. It is the pool's from this call on.
 *
 * Node sends it without a copy over HTTP/1, HTTPS, HTTP/2 over TLS, sockets and to files. Any other
 * writable, one that other code has changed (express's `compression`) or corked, a request that asks for a
 * tunnel, one by an agent of somebody else's, and HTTP/2 without TLS (which may send frames of a response
 * that was reset) get a copy, and the buffer is released at once.
 *
 * What Node does with a response that takes nothing (HEAD, 204, 304, ended or destroyed already) it
 * does here; the buffer is released.
 *
 * @param res a response of Node's `http`, `https` or `http2` (fastify's `reply.raw`), a client's
 *   request, or any other Writable
 * @param buffer any view of a block that is leased from the pool, and is not on its way out already
 * @returns `res`
 * @throws {TypeError} `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_CISTERN_NOT_POOLED`
 * @throws {Error} `ERR_CISTERN_ALREADY_RELEASED`
 * @throws what `res.end` throws; the buffer is released then, too, as soon as nothing reads the memory any more
 */
export function end<Res extends NodeJS.WritableStream>(
  pool: BufferPool,
  res: Res,
  buffer: Uint8Array
): Res

/**
 * A file to a writable through two pooled blocks, read ahead by one, as fast as the writable takes it.
 * The writable stays open, also where this fails.
 *
 * The count is there to be compared with what was announced. A file may be cut short while it is sent. Then
 * `writable.end()` would leave a response that is shorter than its Content-Length, on a connection that goes on, and
 * the client would take the next response for the rest: destroy it instead. A file may grow as well, so give `end` where
 * you announce a length.
 *
 * @returns the bytes written: fewer than there were if the file was cut short meanwhile
 * @throws {Error} what opening, reading or writing failed with; an `AbortError`, with code `ABORT_ERR`.
 *   Nothing stays leased but what the operating system still reads or writes, for as long as it does.
 * @throws as {@link BufferPool.acquire}
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
  /** Ends it. */
  signal?: AbortSignal | undefined
  /** The first byte. Default: 0, and of a handle its own position does not count. */
  start?: number | undefined
  /** The last byte, itself included. Default: the file's last. */
  end?: number | undefined
}

/** What a stream or an async iterable may give: text becomes UTF-8, or what the stream decodes it to. */
export type ChunkSource = string | ArrayBufferLike | NodeJS.ArrayBufferView

/**
 * The bytes of a file, a Readable, a web stream or any other async iterable, in pooled Buffers. Each is
 * released when the loop moves on, also by `break` and `throw`. To keep one, copy it, or transfer its ArrayBuffer, as
 * with `postMessage(chunk, [chunk.buffer])`: then the new owner has it to release.
 *
 * A Readable's pieces of one turn of the event loop share a chunk, as far as there is room.
 *
 * Where the loop is left, by `break`, `throw`, an error or the signal, a stream is treated as Node's own iterator
 * treats it. So a server's request is destroyed, but its connection stays, and an answer can be sent. Where more than
 * the limit comes, the request is not destroyed: it is let go of as by {@link readBody}, so that its client gets the
 * answer although it goes on sending. Of an HTTP/2 stream that is read itself, and not its request, only this leaves
 * an answer possible.
 *
 * An iterator that is dropped in the middle, without `return()`, gives its block back when the garbage collector
 * finds it, closes the file that it opened, and listens to nothing any more. A FileHandle, a stream or a generator
 * of the caller's stays open then.
 *
 * @throws {Error} `ERR_CISTERN_BODY_TOO_LARGE`, with a `statusCode` of 413: by its Content-Length, before anything is
 *   read, or when more than the limit has come
 * @throws as {@link pumpFile}, and what the source failed with; `ERR_STREAM_PREMATURE_CLOSE` for an HTTP/2 stream
 *   that was reset
 * @throws {TypeError} `ERR_INVALID_ARG_TYPE` for a piece that is no bytes; `ERR_INVALID_ARG_VALUE` for one whose memory
 *   was taken away before all of it was copied
 */
export function chunks(
  pool: BufferPool,
  source: PathLike | FileHandle | Readable | ReadableStream | AsyncIterable<ChunkSource>,
  options?: ChunksOptions
): AsyncGenerator<PooledBuffer, void, void>

export interface ChunksOptions {
  /**
   * The most bytes of a chunk. Default: 256 KiB of a file; of a stream 64 KiB, and up to 256 KiB while it comes fast.
   */
  chunkSize?: number | undefined
  /** The most bytes in all, or `Infinity`. Default: `Infinity`. */
  limit?: number | undefined
  /** Ends it. */
  signal?: AbortSignal | undefined
}

/**
 * The `onread` option of `net.connect`, or of `tls.connect` where that makes the connection (to one over
 * a `socket` that is given Node passes no `onread` on): the socket reads into a pooled block, again and
 * again, and emits no `'data'`.
 *
 * Each socket has a block of its own, from the first bytes that it reads until it is closed. So one that
 * never connects leases nothing, and several may share the option. Where the pool has no memory, the
 * socket is destroyed with the pool's error.
 *
 * @param callback with what was read, at the beginning of the Buffer, which holds it until the callback
 *   returns. The Buffer is not the caller's to release or to keep. `false` pauses the socket.
 * @throws {TypeError | RangeError} `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_OUT_OF_RANGE`
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
  /** The most that is read at a time, in bytes. Default: 64 KiB. */
  size?: number | undefined
}

export type OnReadCallback = (
  this: Socket,
  length: number,
  buffer: PooledBuffer
  // biome-ignore lint/suspicious/noConfusingVoidType: whatever is not `false` goes on
) => boolean | void
