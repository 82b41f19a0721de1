/// <reference types="node" />

/**
 * A pool of Buffers. Memory that is released serves the next lease at once.
 *
 * A pool object belongs to the thread that made it. Other threads {@link attach} to the same pool
 * by its {@link handle}, or use {@link shared}. Each thread has magazines of its own. All threads
 * share one depot of idle memory, one ceiling and one set of counters.
 *
 * ```js
 * const { BufferPool } = require('cistern')
 *
 * const pool = new BufferPool({ maxBytes: 64 * 1024 * 1024 })
 * const buffer = pool.allocUnsafe(64 * 1024)
 * pool.release(buffer)
 * ```
 */
export class BufferPool {
  /**
   * Makes a pool. It holds no memory before the first lease.
   *
   * @param options each optional, and checked once, here
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`: an option has the wrong
   *   type or an unknown value, or its name is unknown
   * @throws {RangeError} `ERR_OUT_OF_RANGE`: a number is outside of its option's range
   */
  constructor(options?: BufferPoolOptions)

  /**
   * Returns a Buffer of exactly `size` bytes with unspecified contents, as `Buffer.allocUnsafe`
   * does.
   *
   * V8 serves empty Buffers and those above `maxBlockSize`. It also serves requests that find no
   * room under `maxBytes`, unless `onExhausted` is `'throw'`. Release them like any other.
   *
   * On macOS and Windows, idle memory of other sizes becomes available one event-loop turn later,
   * and so does memory that Node 20 has just released.
   *
   * @param size in bytes: an integer from 0 to `buffer.constants.MAX_LENGTH`
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`, as Node throws it: `size` is no number
   * @throws {RangeError} `ERR_OUT_OF_RANGE`, as Node throws it: `size` is out of range, or a
   *   fraction
   * @throws {RangeError} `ERR_CISTERN_EXHAUSTED`, with `onExhausted: 'throw'`: there is no room
   *   under `maxBytes`, or other requests wait for it
   * @throws {Error} `ERR_CISTERN_CLOSED`: the pool is closed
   * @throws {Error} `ERR_MEMORY_ALLOCATION_FAILED`: the operating system has no memory; nothing has
   *   changed
   */
  allocUnsafe(size: number): PooledBuffer

  /**
   * Returns a Buffer of exactly `size` bytes, filled as `Buffer.alloc` fills it. The rest of its
   * ArrayBuffer is zero.
   *
   * @param size in bytes: an integer from 0 to `buffer.constants.MAX_LENGTH`
   * @param fill repeated over the whole Buffer; 0 by default
   * @param encoding of a string; `'utf8'` by default
   * @throws as {@link allocUnsafe} does, and as `buf.fill` does; nothing stays leased
   */
  alloc(size: number, fill?: string | Uint8Array | number, encoding?: BufferEncoding): PooledBuffer

  /**
   * Returns a promise of a Buffer. At the ceiling it waits for memory, whatever `onExhausted` is.
   *
   * All threads share one queue, first come, first served. No request is served before the first
   * one, however large that one is.
   *
   * A wait keeps its thread alive as long as something other than the thread's own code can end it.
   * That is memory that another thread has leased or idle, or memory that is on its way back. If a
   * thread has leased the whole ceiling itself and waits for more, it ends, as it does at any
   * `await` that nothing can settle.
   *
   * ```js
   * const { shared } = require('cistern')
   *
   * const signal = AbortSignal.timeout(1000)
   * shared.acquire(64 * 1024, { signal }).then((buffer) => shared.release(buffer))
   * ```
   *
   * @param size in bytes: an integer from 0 to `buffer.constants.MAX_LENGTH`
   * @throws {TypeError | RangeError} as {@link allocUnsafe} does, by a rejection
   * @throws {RangeError} `ERR_CISTERN_EXHAUSTED`: the ceiling can never hold so much
   * @throws {Error} `ERR_CISTERN_CLOSED`: the pool is closed, or was closed during the wait
   * @throws {Error} an `AbortError`, with code `ABORT_ERR`: the signal fired; nothing stays leased
   */
  acquire(size: number, options?: AcquireOptions): Promise<PooledBuffer>

  /**
   * Returns a promise of a {@link Lease}, for `using` and `finally`. It waits as {@link acquire}
   * does.
   *
   * @param size in bytes: an integer from 0 to `buffer.constants.MAX_LENGTH`
   * @throws as {@link acquire} does
   */
  acquireLease(size: number, options?: AcquireOptions): Promise<Lease>

  /**
   * Releases the whole block of a view. With `detachOnRelease` every view of the block then has
   * length zero.
   *
   * Native code must be done with the memory. If you passed a Buffer to `fs`, `zlib` or a stream,
   * release it in the callback, not before. Otherwise native code reads and writes the next owner's
   * data, or memory that is gone.
   *
   * If you posted a Buffer to another thread in the transfer list, the receiver releases it,
   * through its own pool object. If you transferred an ArrayBuffer, release the new one. Node 20 on
   * macOS and Windows copies a posted Buffer: it stays leased in the sender, and the sender
   * releases it.
   *
   * @param view any view of the block, or its ArrayBuffer
   * @throws {TypeError} `ERR_CISTERN_NOT_POOLED`: `view` is not of a block of this pool
   * @throws {Error} `ERR_CISTERN_ALREADY_RELEASED`: the block was released before
   * @throws {Error} `ERR_CISTERN_DETACHED`: the ArrayBuffer was transferred;
   *   `ERR_CISTERN_UNDETACHABLE`: it was marked as untransferable. In both cases the block comes
   *   back when its memory is collected.
   */
  release(view: NodeJS.ArrayBufferView | ArrayBuffer): void

  /**
   * Returns a Buffer together with its release, for `using` and `finally`.
   *
   * ```js
   * const { shared } = require('cistern')
   *
   * const lease = shared.lease(5000, { zero: true })
   * lease.release()
   * ```
   *
   * @param size in bytes: an integer from 0 to `buffer.constants.MAX_LENGTH`
   * @throws as {@link allocUnsafe} does; {TypeError} `ERR_INVALID_ARG_TYPE`,
   *   `ERR_INVALID_ARG_VALUE`: an option is wrong or unknown
   */
  lease(size: number, options?: LeaseOptions): Lease

  /**
   * Returns a buffer that grows.
   *
   * The pool learns from released ones: every 42,000 releases in a thread, it takes the commonest
   * length as the first size. It stops storing the blocks of buffers above the 95th percentile of
   * what was written or asked for. So the memory of one unusually large buffer is freed in the end.
   *
   * ```js
   * const { shared } = require('cistern')
   *
   * const bytes = shared.byteBuffer()
   * console.log(bytes.append('log ').append(Buffer.from('line')).length) // 8
   * bytes.release()
   * ```
   *
   * @param sizeHint expected length in bytes; by default the learned one, and 1 KiB before any is
   *   learned
   * @throws as {@link allocUnsafe} does
   */
  byteBuffer(sizeHint?: number): ByteBuffer

  /**
   * Returns whether the block of a view is leased from this pool now, in any thread.
   *
   * @param view any value; `false` for one that is no view and no ArrayBuffer
   */
  owns(view: NodeJS.ArrayBufferView | ArrayBuffer): boolean

  /**
   * Returns the pool's counters, summed over all threads, as a frozen plain object. The call takes
   * some microseconds.
   */
  stats(): PoolStats

  /**
   * Returns the call sites that hold memory now, the most bytes first, as a frozen plain array.
   *
   * It covers leases whose call site was recorded: one in 128 by default, and all of them with
   * `leakSampleRate: 1`. It shows leases that this thread took, even if another thread has the
   * Buffer now. Of more than 100,000 recorded leases it shows the latest 100,000.
   *
   * ```js
   * const { BufferPool } = require('cistern')
   *
   * const pool = new BufferPool({ leakSampleRate: 1 })
   * const buffer = pool.allocUnsafe(100_000)
   * console.log(pool.holders()[0].bytes) // 114688
   * pool.release(buffer)
   * ```
   */
  holders(): readonly Holder[]

  /**
   * Gives idle memory back to the operating system: the depot's first, then that of this thread's
   * magazines.
   *
   * One call frees at most 4096 blocks of each. This thread frees the rest in its next event-loop
   * turns, and other threads free theirs in their next turns.
   *
   * @param keepBytes the number of bytes that may stay idle; 0 by default
   * @returns the bytes that this call freed
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: `keepBytes` is no number
   * @throws {RangeError} `ERR_OUT_OF_RANGE`: `keepBytes` is negative, or NaN
   */
  trim(keepBytes?: number): number

  /**
   * Closes the pool permanently, in all threads. A second call does nothing.
   *
   * Idle memory is freed. Leased Buffers stay valid, and their memory is freed when they are
   * released. Waiting requests are rejected. Another thread may still lease idle blocks of its own
   * magazines until its event loop turns.
   */
  close(): void

  /**
   * Names the pool for other threads of the process. Send it by `workerData` or `postMessage`, and
   * pass it to {@link attach} there. It keeps no pool alive.
   */
  readonly handle: PoolHandle

  /**
   * Returns the pool that a handle names, for this thread. In a thread that already has a pool
   * object for it, returns that object.
   *
   * @param handle the {@link handle} of a pool of this process
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: no object
   * @throws {TypeError} `ERR_CISTERN_INVALID_HANDLE`: no handle of cistern, one of another process
   *   or of another copy of cistern, or one whose pool is gone
   * @throws {Error} `ERR_CISTERN_CLOSED`: the pool is closed
   */
  static attach(handle: PoolHandle): BufferPool
}

/**
 * A buffer that grows. Its bytes lie in one block. When it is full, it moves them to a block at
 * least twice as large and releases the smaller one.
 *
 * After `release` every member throws `ERR_CISTERN_ALREADY_RELEASED`. After a transfer of its
 * ArrayBuffer every member throws `ERR_CISTERN_DETACHED`.
 */
export interface ByteBuffer {
  /**
   * Appends bytes, or the bytes of a string. Returns the buffer itself.
   *
   * @param data bytes, or a string to encode
   * @param encoding of a string; `'utf8'` by default
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: `data` is neither a string nor a Uint8Array
   * @throws {TypeError} `ERR_UNKNOWN_ENCODING`, as Node throws it
   * @throws {RangeError | Error} as {@link BufferPool.allocUnsafe} does, where it must grow;
   *   nothing has changed
   */
  append(data: string | Uint8Array, encoding?: BufferEncoding): this
  /** The number of bytes so far. */
  readonly length: number
  /** The number of bytes that fit before it grows. */
  readonly capacity: number
  /**
   * Returns the bytes so far without a copy. The view is valid until the next `append` or
   * `release`.
   */
  view(): PooledBuffer
  /** Returns a copy of the bytes so far. The copy is memory of V8, and needs no release. */
  toBuffer(): PooledBuffer
  /** Empties the buffer and keeps its block. Returns the buffer itself. */
  reset(): this
  /** Releases the block. */
  release(): void
  /** Releases the block, unless it is released already. */
  [Symbol.dispose](): void
}

/**
 * Names a pool of this process. Structured clone copies it; its contents may change between
 * versions.
 */
export interface PoolHandle {
  /** Marks a handle of cistern. */
  readonly type: 'cistern.pool'
  /** The pool's name. */
  readonly name: string
  /** Identifies the pool among all pools of all processes. */
  readonly key: string
}

/**
 * One pool for the process, with the default options, in every thread.
 *
 * CommonJS makes it on first use, ES modules when they load it. It holds no memory before the first
 * lease.
 */
export const shared: BufferPool

/**
 * A Buffer that has an ArrayBuffer of its own, with the type that Node gives `Buffer.allocUnsafe`.
 */
export type PooledBuffer = ReturnType<typeof Buffer.allocUnsafe>

/** Options of a pool, each optional. The constructor checks them once. */
export interface BufferPoolOptions {
  /** The pool's name in stats, events, metrics and errors. Default: `'pool'`. */
  name?: string | undefined
  /**
   * The most memory that the pool ever holds, in bytes of blocks: leased, idle and in quarantine,
   * in all threads. An integer from 1 up, or `Infinity`. Default: a quarter of the memory that the
   * process may use, by its cgroup's limit or the machine's memory.
   */
  maxBytes?: number | undefined
  /**
   * The largest request that the pool serves, in bytes: an integer from 1 to 1 GiB. V8 serves
   * larger ones, and they count as unpooled. Blocks above 128 MiB are freed at their release, and
   * not stored. Default: 32 MiB.
   */
  maxBlockSize?: number | undefined
  /**
   * `true`: at release every view of the block gets length zero, so that a stale reference can
   * neither read nor write the next owner's data. `false`: the next lease gets the same
   * ArrayBuffer, and for the same length the same Buffer, faster and without that protection.
   * Default: `true`.
   */
  detachOnRelease?: boolean | undefined
  /** Overwrites a released block with zeros before its next owner gets it. Default: `false`. */
  zeroOnRelease?: boolean | undefined
  /**
   * How `alloc`, `allocUnsafe` and `lease` act without room under `maxBytes`: `'unpooled'` lets V8
   * serve them, `'throw'` throws `ERR_CISTERN_EXHAUSTED`. Default: `'unpooled'`.
   */
  onExhausted?: 'unpooled' | 'throw' | undefined
  /**
   * The time, in milliseconds, after which surplus idle memory goes back to the operating system. 0
   * keeps none idle beyond the current event-loop turn, `Infinity` keeps all. Under memory pressure
   * it goes earlier. Default: 10,000.
   */
  idleTimeout?: number | undefined
  /**
   * The share of leases whose call site is recorded, from 0 to 1: for leak reports and for {@link
   * BufferPool.holders}. Below 1, a thread records at most that share of 12,800 leases per second,
   * or 100 if that is more. Default: 1/128.
   */
  leakSampleRate?: number | undefined
}

/** Options of `acquire` and `acquireLease`. */
export interface AcquireOptions {
  /** Fills the Buffer with zeros. Default: `false`. */
  zero?: boolean | undefined
  /** Ends the wait with an `AbortError`. */
  signal?: AbortSignal | undefined
}

/**
 * Message on the channel `cistern:leak` of `node:diagnostics_channel`: a sampled lease was
 * collected unreleased.
 */
export interface LeakMessage {
  /** The pool's name. */
  readonly pool: string
  /** The requested size, in bytes. */
  readonly size: number
  /** The stack of the lease, as an `Error` has it, without frames of cistern. */
  readonly stack: string
  /** The number of sampled leases of this call site that have leaked, this one included. */
  readonly count: number
}

/** The sampled leases of one call site. */
export interface Holder {
  /** The stack of the leases, as an `Error` has it, without frames of cistern. */
  readonly stack: string
  /** The number of leases. */
  readonly count: number
  /** The sum of their block sizes, in bytes. */
  readonly bytes: number
  /** The age of the oldest of them, in milliseconds. */
  readonly oldestMs: number
}

/** Message on the channel `cistern:exhausted`: there is no room under the ceiling. */
export interface ExhaustedMessage {
  /** The pool's name. */
  readonly pool: string
  /** The requested size, in bytes. */
  readonly size: number
  /** The ceiling, in bytes. */
  readonly maxBytes: number
  /** The caller gets memory of V8, an error, or a place in the queue. */
  readonly outcome: 'unpooled' | 'throw' | 'wait'
}

/** Message on the channel `cistern:trim`: idle memory went back to the operating system. */
export interface TrimMessage {
  /** The pool's name. */
  readonly pool: string
  /** The number of bytes that went back. */
  readonly bytes: number
  /** Why: unused for a while, memory pressure, or a call of `trim()`. */
  readonly reason: 'idle' | 'pressure' | 'call'
}

/** Options of `lease`. */
export interface LeaseOptions {
  /** Fills the Buffer with zeros. Default: `false`. */
  zero?: boolean | undefined
}

/** A Buffer together with its release. */
export interface Lease {
  /** The Buffer, of exactly the requested length. */
  readonly buffer: PooledBuffer
  /** Releases the block, unless it is released already. */
  release(): void
  /** Releases the block, for `using`. */
  [Symbol.dispose](): void
}

/**
 * Figures of a pool or of one block size. Counts are since the start unless they say "now". Bytes
 * are block sizes, except `allocBytes`.
 */
export interface ClassFigures {
  /** Blocks that are leased now. */
  readonly inUseCount: number
  /** Their sizes in all. */
  readonly inUseBytes: number
  /** Blocks that are idle now: in the depot, in the magazines, or on their way between them. */
  readonly idleCount: number
  /** Their sizes in all. */
  readonly idleBytes: number
  /** Leases. */
  readonly allocCount: number
  /** Bytes requested in these leases. */
  readonly allocBytes: number
  /** Blocks that came from the operating system. */
  readonly freshCount: number
  /** Their sizes in all. */
  readonly freshBytes: number
  /** Leases that an idle block served. */
  readonly hitCount: number
  /** Leases that needed a block from the operating system. */
  readonly missCount: number
  /** Leases that were released. */
  readonly releaseCount: number
  /** Leases that the garbage collector ended. The pool's total includes leases that V8 served. */
  readonly collectedCount: number
  /** Blocks that came back and were freed, not stored. */
  readonly discardCount: number
  /** Bytes that went back to the operating system, for any reason. */
  readonly freedBytes: number
  /**
   * Bytes in quarantine now: their thread has ended, but another thread may still refer to them.
   * The pool takes them back when the last reference is gone. If the runtime can't report that
   * (Bun, and systems other than Linux), they stay in quarantine.
   */
  readonly quarantinedBytes: number
}

/**
 * Figures of a pool. At rest, `freshBytes === inUseBytes + idleBytes + freedBytes +
 * quarantinedBytes`.
 */
export interface PoolStats extends ClassFigures {
  /** The pool's name. */
  readonly name: string
  /**
   * The most bytes leased at one time, never above `maxBytes`. With several threads it is an upper
   * bound. That is the sum of their peaks, or the most bytes that they had at one time, leased and
   * idle, whichever is less.
   */
  readonly peakInUseBytes: number
  /**
   * Leases that V8 served. They are part of `allocCount`, but not of the figures in use, idle and
   * fresh.
   */
  readonly unpooledCount: number
  /** Leases that waited for memory. */
  readonly waitCount: number
  /** Requests that wait now, in all threads. */
  readonly waitingCount: number
  /** The age of the oldest of them, in milliseconds; 0 if there is none. */
  readonly longestWaitMs: number
  /**
   * The pool's native memory besides its blocks now, in bytes: its counters, its records of lent
   * blocks, and the queues of idle ones. V8 counts them as external memory. They shrink after
   * blocks are freed.
   */
  readonly overheadBytes: number
  /** The ceiling, in bytes. */
  readonly maxBytes: number
  /**
   * `true`: blocks are memory of cistern. `false`: they are memory of V8, because the runtime
   * allows no other (Electron), or because the environment has `CISTERN_NO_EXTERNAL=1`.
   */
  readonly external: boolean
  /** The same figures for each block size that has been used, the smallest first. */
  readonly classes: readonly (ClassFigures & { readonly blockSize: number })[]
}
