/** Compiled by `npm run lint`, never run: what the types must accept and refuse. */

import {
  BufferPool,
  shared,
  type ByteBuffer,
  type BufferPoolOptions,
  type ExhaustedMessage,
  type Holder,
  type LeakMessage,
  type Lease,
  type PoolHandle,
  type PoolStats,
  type TrimMessage
} from '../../index'

const options: BufferPoolOptions = { name: 'types', maxBlockSize: 1024, zeroOnRelease: true }
const pool = new BufferPool(options)
const buffer: Buffer = pool.allocUnsafe(10)
pool.release(buffer)
pool.release(pool.alloc(10, 'x', 'utf8').buffer)
const blob = new Blob([pool.allocUnsafe(5)])
pool.release(new DataView(new ArrayBuffer(1)))
const lease: Lease = shared.lease(10, { zero: true })
lease.release()
{
  using disposed = pool.lease(5)
  disposed.buffer.fill(0)
}
const owns: boolean = pool.owns(buffer)
const stats: PoolStats = pool.stats()
const holders: readonly Holder[] = pool.holders()
const held: [string, number, number, number][] = holders.map((holder) => [
  holder.stack,
  holder.count,
  holder.bytes,
  holder.oldestMs
])
// @ts-expect-error: a snapshot
holders.push()
const handle: PoolHandle = pool.handle
BufferPool.attach(handle).release(buffer)
pool.acquire(10, { zero: true, signal: AbortSignal.timeout(5) }).then((got: Buffer) => got.fill(0))
pool
  .acquireLease(10, { zero: true, signal: AbortSignal.timeout(5) })
  .then((got: Lease) => got.release())
new BufferPool({ maxBytes: Infinity, onExhausted: 'throw', idleTimeout: 0, leakSampleRate: 1 })
const bytes: ByteBuffer = pool.byteBuffer(10)
const written: number = bytes.append('x', 'latin1').append(new Uint8Array(1)).reset().length
pool.release(bytes.view())
const messages = (leak: LeakMessage, exhausted: ExhaustedMessage, trim: TrimMessage) => [
  leak.stack,
  exhausted.outcome,
  trim.reason
]
const freed: number = pool.trim(stats.classes[0]?.blockSize ?? 0)
pool.close()

// @ts-expect-error: an option that does not exist
new BufferPool({ maxBlocksize: 1 })
// @ts-expect-error: there are two ways
new BufferPool({ onExhausted: 'wait' })
// @ts-expect-error: a size is a number
pool.allocUnsafe('10')
// @ts-expect-error: a snapshot is frozen
stats.inUseCount = 0
// @ts-expect-error: a Lease keeps its Buffer
lease.buffer = buffer

export { blob, freed, held, messages, owns, written }
