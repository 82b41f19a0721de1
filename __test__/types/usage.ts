/** Compiled by `npm run lint`, never run: what the types must accept and refuse. */

import { BufferPool, shared, type BufferPoolOptions, type Lease, type PoolStats } from '../../index'

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
const freed: number = pool.trim(stats.classes[0]?.blockSize ?? 0)
pool.close()

// @ts-expect-error: an option that does not exist
new BufferPool({ maxBlocksize: 1 })
// @ts-expect-error: a size is a number
pool.allocUnsafe('10')
// @ts-expect-error: a snapshot is frozen
stats.inUseCount = 0
// @ts-expect-error: a Lease keeps its Buffer
lease.buffer = buffer

export { blob, freed, owns }
