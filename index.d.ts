/// <reference types="node" />

/**
 * A pool of Buffers whose memory is used again as soon as they are released.
 *
 * Every thread that loads cistern has magazines of its own; a pool belongs to the thread that made
 * it, except {@link shared}, whose depot serves all threads of the process.
 */
export class BufferPool {
  /**
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`: an option of the wrong
   *   kind, or one that does not exist
   * @throws {RangeError} `ERR_OUT_OF_RANGE`
   * @throws {Error} `ERR_CISTERN_NOT_IMPLEMENTED`: an option that a later version brings
   */
  constructor(options?: BufferPoolOptions)

  /**
   * A Buffer of exactly `size` bytes with unspecified contents, as `Buffer.allocUnsafe` gives.
   * Larger than `maxBlockSize` and empty ones come from V8, and are released like any other.
   *
   * @param size in bytes, whole, from 0 to `buffer.constants.MAX_LENGTH`
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`, as Node's own
   * @throws {RangeError} `ERR_OUT_OF_RANGE`, as Node's own, and for a fraction too
   * @throws {Error} `ERR_CISTERN_CLOSED`; `ERR_MEMORY_ALLOCATION_FAILED` where the operating
   *   system has no memory, with nothing changed
   */
  allocUnsafe(size: number): PooledBuffer

  /**
   * A Buffer of exactly `size` bytes, filled as `Buffer.alloc` fills; zeros by default.
   *
   * @throws as {@link allocUnsafe}, and what `buf.fill` throws; nothing stays leased then
   */
  alloc(size: number, fill?: string | Uint8Array | number, encoding?: BufferEncoding): PooledBuffer

  /**
   * Gives a block back, whole, by any view of it. With `detachOnRelease`, every view of it has
   * length zero from now on. Native code must be done with the memory, or it reads and writes
   * another owner's, or none: release a Buffer that was passed to `fs`, `zlib` or a stream in the
   * callback, not before.
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
   * @throws as {@link allocUnsafe}; {TypeError} `ERR_INVALID_ARG_TYPE` for wrong options
   */
  lease(size: number, options?: LeaseOptions): Lease

  /** Whether a view is of a block that is leased from this pool now. */
  owns(view: NodeJS.ArrayBufferView | ArrayBuffer): boolean

  /** The books as they stand, all threads together: a plain frozen object. */
  stats(): PoolStats

  /**
   * Gives idle memory back to the operating system, the depot's first and then that of this
   * thread's magazines, whose memory follows in the next turn of the event loop.
   *
   * @param keepBytes how much may stay idle; 0 by default
   * @returns bytes freed
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`
   * @throws {RangeError} `ERR_OUT_OF_RANGE`
   */
  trim(keepBytes?: number): number

  /**
   * Ends leasing, for good. Idle memory is freed; what is leased stays valid, and is freed when it
   * comes back. Closing again does nothing. `shared` is closed for the whole process; another
   * thread may still lease what is idle in its own magazines.
   */
  close(): void
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
  /** Names the pool in stats and errors. Default: `'pool'`. */
  name?: string | undefined
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
}

export interface LeaseOptions {
  /** Whether the Buffer is filled with zeros. Default: `false`. */
  zero?: boolean | undefined
}

/** A Buffer together with its release. */
export interface Lease {
  readonly buffer: PooledBuffer
  /** Gives the block back; does nothing where it is back already. */
  release(): void
  [Symbol.dispose](): void
}

/** Counts are of blocks or leases; bytes are block sizes, except `allocBytes`. */
export interface ClassFigures {
  /** Leased now. */
  readonly inUseCount: number
  readonly inUseBytes: number
  /** In the depot and in all magazines, or on the way between them. */
  readonly idleCount: number
  readonly idleBytes: number
  /** Leases since the start. */
  readonly allocCount: number
  /** Bytes asked for in them. */
  readonly allocBytes: number
  /** Blocks that had to be got from the operating system. */
  readonly freshCount: number
  readonly freshBytes: number
  /** Leases served from idle blocks. */
  readonly hitCount: number
  /** Leases for which a block had to be got. */
  readonly missCount: number
  readonly releaseCount: number
  /** Leases that the garbage collector ended. */
  readonly collectedCount: number
  /** Blocks that came back and were not kept. */
  readonly discardCount: number
  /** Given back to the operating system, for whatever reason. */
  readonly freedBytes: number
  /** Set aside for good, because another thread may still hold them. */
  readonly quarantinedBytes: number
}

/** At rest, `freshBytes === inUseBytes + idleBytes + freedBytes + quarantinedBytes`. */
export interface PoolStats extends ClassFigures {
  readonly name: string
  /**
   * The most bytes leased at one time; with several threads an upper bound, the sum of the peaks
   * of those that used the pool at the same time.
   */
  readonly peakInUseBytes: number
  /** Leases served by V8; part of `allocCount`, not of the figures in use, idle and fresh. */
  readonly unpooledCount: number
  /** Leases that waited for memory. */
  readonly waitCount: number
  /** The same for each block size that has been used, the smallest first. */
  readonly classes: readonly (ClassFigures & { readonly blockSize: number })[]
}
