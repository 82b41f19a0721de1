'use strict'

/**
 * The bounds on the idle blocks of a thread cache, seen from inside: `stats()` only shows that they
 * are idle.
 */

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const reuse = require('../../lib/cache/reuse')
const native = require('../../lib/runtime/native')
const { toSettings } = require('../../lib/pool/options')
const { ThreadCache } = require('../../lib/cache/thread-cache')
const { blockSizes, classOf } = require('../../lib/cache/size-class')
const { Fate } = require('../../lib/cache/states')
const { slotOf } = require('../../lib/cache/tag')
const { external, settle } = require('../support/helpers')

const MIB = 1024 * 1024
const CACHE_BYTES = 64 * MIB
const MAGAZINE_BYTES = 32 * MIB
const MAGAZINE_BLOCKS = 4096

function openCache() {
  const settings = toSettings({ detachOnRelease: false, idleTimeout: Infinity, leakSampleRate: 0 })
  return new ThreadCache(/** @type {any} */ ({}), native.open(settings))
}

/** Leases and gives back `count` blocks of each size, within one turn. */
function use(cache, sizes, count) {
  const buffers = sizes.flatMap((size) =>
    Array.from({ length: count(size) }, () => reuse.lease(cache, size))
  )
  for (const buffer of buffers) assert.ok(reuse.giveBack(cache, slotOf(buffer.buffer)))
}

const idleBytes = (cache) =>
  cache.magazines.reduce((sum, magazine) => sum + magazine.count * magazine.blockSize, 0)

describe('from one turn to the next', () => {
  for (const size of [64, 4096, 65_536, MIB, 32 * MIB]) {
    test(`a magazine holds at most 4,096 blocks and 32 MiB, of ${size} bytes`, async () => {
      const cache = openCache()
      const magazine = cache.magazineOf(classOf(size))
      const bound = Math.min(MAGAZINE_BLOCKS, MAGAZINE_BYTES / size)
      use(cache, [size], () => bound)
      await settle()
      assert.equal(magazine.count, bound, 'as many as it may keep it keeps')
      use(cache, [size], () => bound + 2)
      assert.equal(magazine.count, bound + 2, 'within the turn it keeps all')
      await settle()
      assert.ok(magazine.count <= bound, `${magazine.count} blocks`)
    })
  }

  test('a thread cache holds at most 64 MiB in all its magazines', async () => {
    const cache = openCache()
    const sizes = [1, 2, 4, 8, 16].map((mib) => mib * MIB)
    use(cache, sizes, (size) => (32 * MIB) / size)
    assert.equal(idleBytes(cache), 5 * 32 * MIB, 'within the turn it keeps all')
    await settle()
    assert.ok(idleBytes(cache) <= CACHE_BYTES, `${idleBytes(cache) / MIB} MiB`)
    assert.ok(idleBytes(cache) > 0)
  })
})

test('A fill fetches a batch from the depot, and one block from the operating system', {
  skip: !external
}, async () => {
  const cache = openCache()
  const magazine = cache.magazineOf(classOf(4096))
  use(cache, [4096], () => 1)
  assert.equal(magazine.count, 1)
  use(cache, [4096], () => 6000)
  await settle()
  assert.ok(magazine.count < 6000, 'some are in the depot')
  cache.flusher.flush(Infinity, Fate.STORE, undefined, Infinity)
  await settle()
  use(cache, [4096], () => 1)
  assert.equal(magazine.count, 8)
  assert.equal(cache.stats().freshCount, 6000)
})

test('Every class has a magazine of its block size', () => {
  assert.deepEqual(
    openCache().magazines.map(({ blockSize }) => blockSize),
    blockSizes
  )
})
