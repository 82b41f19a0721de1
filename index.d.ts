/// <reference types="node" />

/**
 * A pool of Buffers whose memory is used again as soon as they are released.
 *
 * A pool object belongs to the thread that made it. Other threads {@link attach} to the same pool by
 * its {@link handle}, or use {@link shared}: each has magazines of its own, and one depot, one ceiling
 * and one set of books serve them all.
 */
export class BufferPool {
  /**
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`: an option of the wrong
   *   kind, or one that does not exist
   * @throws {RangeError} `ERR_OUT_OF_RANGE`
   */
  constructor(options?: BufferPoolOptions)

  /**
   * A Buffer of exactly `size` bytes with unspecified contents, as `Buffer.allocUnsafe` gives.
   * Larger than `maxBlockSize` and empty ones come from V8, and are released like any other. So do
   * those for which there is no room under `maxBytes`, unless `onExhausted` is `'throw'`. On macOS and Windows what
   * is idle in another size is room a turn of the event loop later, and so is what Node 20 has just released.
   *
   * @param size in bytes, whole, from 0 to `buffer.constants.MAX_LENGTH`
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`, as Node's own
   * @throws {RangeError} `ERR_OUT_OF_RANGE`, as Node's own, and for a fraction too
   * @throws {RangeError} `ERR_CISTERN_EXHAUSTED`, with `onExhausted: 'throw'`: no room under
   *   `maxBytes`, or others wait for it
   * @throws {Error} `ERR_CISTERN_CLOSED`; `ERR_MEMORY_ALLOCATION_FAILED` where the operating
   *   system has no memory, with nothing changed
   */
  allocUnsafe(size: number): PooledBuffer

  /**
   * A Buffer of exactly `size` bytes, filled as `Buffer.alloc` fills; zeros by default. What the ArrayBuffer has
   * beyond it is zero.
   *
   * @throws as {@link allocUnsafe}, and what `buf.fill` throws; nothing stays leased then
   */
  alloc(size: number, fill?: string | Uint8Array | number, encoding?: BufferEncoding): PooledBuffer

  /**
   * As {@link allocUnsafe}, but at the ceiling it waits until there is room: first come, first
   * served, across all threads. Nobody behind is served before the first, however much that one wants.
   * A wait keeps its thread alive for as long as something other than the thread's own code can end it: memory that
   * another thread has leased or idle, or that is on its way back. A thread that has leased all of the ceiling itself,
   * and waits for more, ends as one that awaits what never comes.
   *
   * @throws {TypeError | RangeError} as {@link allocUnsafe}
   * @throws {RangeError} `ERR_CISTERN_EXHAUSTED`: more than the ceiling can ever hold
   * @throws {Error} `ERR_CISTERN_CLOSED`, when the pool is closed meanwhile, too
   * @throws {Error} an `AbortError`, with code `ABORT_ERR`: the signal fired. Nothing stays leased.
   */
  acquire(size: number, options?: AcquireOptions): Promise<PooledBuffer>

  /**
   * As {@link acquire}, but with the release, for `using` and `finally`.
   *
   * @throws as {@link acquire}
   */
  acquireLease(size: number, options?: AcquireOptions): Promise<Lease>

  /**
   * Gives a block back, whole, by any view of it. With `detachOnRelease`, every view of it has
   * length zero from now on. Native code must be done with the memory, or it reads and writes
   * another owner's, or none: release a Buffer that was passed to `fs`, `zlib` or a stream in the
   * callback, not before.
   *
   * A Buffer that was posted to another thread in the transfer list is released there, by that
   * thread's end of the pool, and one whose ArrayBuffer was transferred by the new ArrayBuffer. Node 20 on
   * macOS and Windows copies it when it is posted: it stays leased in the sender, and is released there.
   *
   * @throws {TypeError} `ERR_CISTERN_NOT_POOLED`: not a view of a block of this pool
   * @throws {Error} `ERR_CISTERN_ALREADY_RELEASED`; `ERR_CISTERN_DETACHED` where its ArrayBuffer
   *   was transferred; `ERR_CISTERN_UNDETACHABLE` where it was marked as untransferable. The block
   *   of the latter two comes back when it is collected.
   */
  release(view: NodeJS.ArrayBufferView | ArrayBuffer): void

  /**
   * A Buffer together with its release, for `using` and `finally`.
   *
   * @throws as {@link allocUnsafe}; {TypeError} `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` for wrong
   *   options and unknown ones
   */
  lease(size: number, options?: LeaseOptions): Lease

  /**
   * A buffer that grows. The pool learns from those that are released: every 42,000 releases (of a
   * thread) it begins new ones with the commonest size, and keeps no more blocks above the 95th
   * percentile of what was written, or asked for as `sizeHint`. So one that grew large once is not kept for
   * ever.
   *
   * @param sizeHint how many bytes are expected; by default what was learned, and 1 KiB before
   * @throws as {@link allocUnsafe}
   */
  byteBuffer(sizeHint?: number): ByteBuffer

  /** Whether a view is of a block that is leased from this pool now, in whichever thread. */
  owns(view: NodeJS.ArrayBufferView | ArrayBuffer): boolean

  /** The books as they stand, all threads together: a plain frozen object. */
  stats(): PoolStats

  /**
   * Who holds memory now, by call site, the most bytes first: of the leases whose call site was recorded, one in 128
   * by default, and all of them with `leakSampleRate: 1`. It shows leases that were taken in this thread, wherever
   * their Buffers are now; other threads show theirs. Of a hundred thousand recorded leases and more, it shows the
   * latest hundred thousand. A plain frozen snapshot.
   */
  holders(): readonly Holder[]

  /**
   * Gives idle memory back to the operating system, the depot's first and then that of this
   * thread's magazines. At most 4096 blocks of each go in the call, the others in the next turns of the event loop.
   * Other threads are told to do the same, and do in their next turns.
   *
   * @param keepBytes how much may stay idle; 0 by default
   * @returns bytes freed here and now
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`
   * @throws {RangeError} `ERR_OUT_OF_RANGE`
   */
  trim(keepBytes?: number): number

  /**
   * Ends leasing, for good. Idle memory is freed; what is leased stays valid, and is freed when it
   * comes back. Who waits is refused. Closing again does nothing. A pool is closed for all threads;
   * another may still lease what is idle in its own magazines until its event loop turns.
   */
  close(): void

  /**
   * Names the pool for other threads of the process: to be sent to them by `workerData` or
   * `postMessage`. It keeps no pool alive.
   */
  readonly handle: PoolHandle

  /**
   * The pool that a handle names, for this thread. In a thread where it is at home already, the very
   * same object.
   *
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`; `ERR_CISTERN_INVALID_HANDLE`: it was not made by
   *   cistern, it was made in another process, or by another copy of cistern, or nobody has its pool any more
   * @throws {Error} `ERR_CISTERN_CLOSED`
   */
  static attach(handle: PoolHandle): BufferPool
}

/**
 * A buffer that grows. Its bytes lie in one block; growing moves them to a block at least twice as large
 * and gives the smaller one back. After `release` every use throws `ERR_CISTERN_ALREADY_RELEASED`, and
 * after its ArrayBuffer was transferred `ERR_CISTERN_DETACHED`.
 */
export interface ByteBuffer {
  /**
   * Puts bytes, or a string's bytes, behind those so far.
   *
   * @param encoding of a string; `'utf8'` by default
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`; `ERR_UNKNOWN_ENCODING`, as Node's own
   * @throws {RangeError | Error} as {@link BufferPool.allocUnsafe}, where there is no memory to grow;
   *   nothing has changed then
   */
  append(data: string | Uint8Array, encoding?: BufferEncoding): this
  /** Bytes so far. */
  readonly length: number
  /** Bytes that fit before it grows. */
  readonly capacity: number
  /** The bytes so far, without a copy: valid until the next `append` or `release`. */
  view(): PooledBuffer
  /** A copy of the bytes so far, which V8 owns. */
  toBuffer(): PooledBuffer
  /** Makes it empty, and keeps its block. */
  reset(): this
  /** Gives the block back. */
  release(): void
  /** As `release`, but harmless after it. */
  [Symbol.dispose](): void
}

/** Names a pool of this process. To be cloned, and not to be looked into. */
export interface PoolHandle {
  /** Tells it from other objects. */
  readonly type: 'cistern.pool'
  /** The pool's name. */
  readonly name: string
  /** Tells the pool from others, and from those of other processes. */
  readonly key: string
}

/**
 * One pool for the process, with one depot for all threads. Made on first use; ES modules, whose
 * imports are made at once, make it when they are loaded. It holds no memory until it is leased from.
 */
export const shared: BufferPool

/** A Buffer that has an ArrayBuffer of its own, as Node's `Buffer.allocUnsafe` says it. */
export type PooledBuffer = ReturnType<typeof Buffer.allocUnsafe>

/** Each optional, each checked once. */
export interface BufferPoolOptions {
  /** Names the pool in stats, events, metrics and errors. Default: `'pool'`. */
  name?: string | undefined
  /**
   * The most memory that the pool ever holds, in bytes of blocks: leased and idle, in all threads, and
   * what is set aside. Room is reserved before memory is got. An integer from 1 up, or `Infinity`.
   * Default: a quarter of what the process may use, by its cgroup's limit or the machine's memory.
   */
  maxBytes?: number | undefined
  /**
   * The largest request served from the pool, in bytes, up to 1 GiB; larger ones come from V8 and
   * are counted as unpooled. Blocks above 128 MiB are freed, not kept, when they come back.
   * Default: 32 MiB.
   */
  maxBlockSize?: number | undefined
  /**
   * `true`: at release every view of the block becomes zero-length, so that a stale reference can
   * neither read nor write the next owner's data. `false`: the same ArrayBuffer is handed out
   * again, and for the same length the same Buffer, faster and without that protection.
   * Default: `true`.
   */
  detachOnRelease?: boolean | undefined
  /** Whether a block is overwritten with zeros before anyone else can have it. Default: `false`. */
  zeroOnRelease?: boolean | undefined
  /**
   * What `alloc`, `allocUnsafe` and `lease` do where there is no room under `maxBytes`: `'unpooled'`
   * has V8 serve them, `'throw'` throws `ERR_CISTERN_EXHAUSTED`. Default: `'unpooled'`.
   */
  onExhausted?: 'unpooled' | 'throw' | undefined
  /**
   * Within so many milliseconds after it was last needed, surplus idle memory goes back to the
   * operating system. 0 keeps none idle past the current turn of the event loop, `Infinity` keeps
   * all. Under memory pressure it goes earlier. Default: 10,000.
   */
  idleTimeout?: number | undefined
  /**
   * The share of leases, from 0 to 1, whose call site is recorded, to tell of those that the garbage
   * collector ends, and for {@link BufferPool.holders}. At rates below 1 at most that share of 12,800 leases is recorded a second and thread, or 100
   * records where that is more. Default: 1/128.
   */
  leakSampleRate?: number | undefined
}

export interface AcquireOptions {
  /** Whether the Buffer is filled with zeros. Default: `false`. */
  zero?: boolean | undefined
  /** Ends the wait. */
  signal?: AbortSignal | undefined
}

/** What `node:diagnostics_channel` has at `cistern:leak`: a sampled lease was never released. */
export interface LeakMessage {
  /** The pool's name. */
  readonly pool: string
  /** What was asked for, in bytes. */
  readonly size: number
  /** Where, as in an `Error`'s stack, without cistern's own frames. */
  readonly stack: string
  /** How many sampled leases of this call site have leaked, this one included. */
  readonly count: number
}

/** Sampled leases that one call site holds. */
export interface Holder {
  /** Where they were taken, as in an `Error`'s stack, without cistern's own frames. */
  readonly stack: string
  /** How many there are. */
  readonly count: number
  /** Their blocks' sizes, together. */
  readonly bytes: number
  /** For how long the oldest of them is leased, in milliseconds. */
  readonly oldestMs: number
}

/** At `cistern:exhausted`: there is no room under the ceiling. */
export interface ExhaustedMessage {
  /** The pool's name. */
  readonly pool: string
  /** What was asked for, in bytes. */
  readonly size: number
  /** The ceiling, in bytes. */
  readonly maxBytes: number
  /** What the caller gets: memory of V8's, an error, or a place in line. */
  readonly outcome: 'unpooled' | 'throw' | 'wait'
}

/** At `cistern:trim`: idle memory went back to the operating system. */
export interface TrimMessage {
  /** The pool's name. */
  readonly pool: string
  /** How many were given back. */
  readonly bytes: number
  /** Unused for a while, memory pressure, or `trim()`. */
  readonly reason: 'idle' | 'pressure' | 'call'
}

export interface LeaseOptions {
  /** Whether the Buffer is filled with zeros. Default: `false`. */
  zero?: boolean | undefined
}

/** A Buffer together with its release. */
export interface Lease {
  /** Of exactly the length that was asked for. */
  readonly buffer: PooledBuffer
  /** Gives the block back; does nothing where it is back already. */
  release(): void
  /** The same, for `using`. */
  [Symbol.dispose](): void
}

/** Counts are of blocks or leases; bytes are block sizes, except `allocBytes`. */
export interface ClassFigures {
  /** Leased now. */
  readonly inUseCount: number
  /** Their blocks' sizes. */
  readonly inUseBytes: number
  /** In the depot and in all magazines, or on the way between them. */
  readonly idleCount: number
  /** Their sizes. */
  readonly idleBytes: number
  /** Leases since the start. */
  readonly allocCount: number
  /** Bytes asked for in them. */
  readonly allocBytes: number
  /** Blocks that had to be got from the operating system. */
  readonly freshCount: number
  /** Their sizes. */
  readonly freshBytes: number
  /** Leases served from idle blocks. */
  readonly hitCount: number
  /** Leases for which a block had to be got. */
  readonly missCount: number
  /** Leases that were released. */
  readonly releaseCount: number
  /** Leases that the garbage collector ended; in the pool's total those that V8 served, too. */
  readonly collectedCount: number
  /** Blocks that came back and were not kept. */
  readonly discardCount: number
  /** Given back to the operating system, for whatever reason. */
  readonly freedBytes: number
  /**
   * Set aside because their thread has ended and another may still hold them: until the last holder is
   * gone, or, where the runtime does not tell that (Bun; others than Linux), for good.
   */
  readonly quarantinedBytes: number
}

/** At rest, `freshBytes === inUseBytes + idleBytes + freedBytes + quarantinedBytes`. */
export interface PoolStats extends ClassFigures {
  /** The pool's. */
  readonly name: string
  /**
   * The most bytes leased at one time, never above `maxBytes`. With several threads an upper bound: the sum of
   * their peaks, or the most bytes that they had at one time, leased and idle, whichever is less.
   */
  readonly peakInUseBytes: number
  /** Leases served by V8; part of `allocCount`, not of the figures in use, idle and fresh. */
  readonly unpooledCount: number
  /** Leases that waited for memory. */
  readonly waitCount: number
  /** Those that wait now, in all threads. */
  readonly waitingCount: number
  /** For how long the oldest of them has waited, in milliseconds; 0 where nobody waits. */
  readonly longestWaitMs: number
  /**
   * Bytes that the pool costs besides its blocks, in native memory: its counters, its record of each block in
   * JavaScript's hands, and the places for idle ones. V8 is told of them. They go when the blocks have gone.
   */
  readonly overheadBytes: number
  /** The ceiling, in bytes. */
  readonly maxBytes: number
  /**
   * Whether blocks are memory of cistern's own. If not, the runtime allows none (Electron), or
   * `CISTERN_NO_EXTERNAL=1` is set in the environment, and they are memory of V8's.
   */
  readonly external: boolean
  /** The same for each block size that has been used, the smallest first. */
  readonly classes: readonly (ClassFigures & { readonly blockSize: number })[]
}
