'use strict'

/** The bounds on what a thread keeps idle, looked at from inside: outside, idle is idle. */

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const keeping = require('../lib/keeping')
const native = require('../lib/native')
const { toSettings } = require('../lib/options')
const { Rack } = require('../lib/rack')
const { blockSizes, classOf } = require('../lib/size-class')
const { slotOf } = require('../lib/tag')
const { external, settle } = require('./helpers')

const MIB = 1024 * 1024
const RACK_BYTES = 64 * MIB
const MAGAZINE_BYTES = 32 * MIB
const MAGAZINE_BLOCKS = 4096

function openRack() {
  const settings = toSettings({ detachOnRelease: false, idleTimeout: Infinity, leakSampleRate: 0 })
  return new Rack(/** @type {any} */ ({}), native.open(settings))
}

/** Leases and gives back `count` blocks of each size, within one turn. */
function use(rack, sizes, count) {
  const buffers = sizes.flatMap((size) =>
    Array.from({ length: count(size) }, () => keeping.lease(rack, size))
  )
  for (const buffer of buffers) assert.ok(keeping.giveBack(rack, slotOf(buffer.buffer)))
}

const idleBytes = (rack) =>
  rack.magazines.reduce((sum, magazine) => sum + magazine.count * magazine.blockSize, 0)

describe('from one turn to the next', () => {
  for (const size of [64, 4096, 65_536, MIB, 32 * MIB]) {
    test(`a magazine keeps at most 4,096 blocks and 32 MiB, of ${size} bytes`, async () => {
      const rack = openRack()
      const magazine = rack.magazineOf(classOf(size))
      const bound = Math.min(MAGAZINE_BLOCKS, MAGAZINE_BYTES / size)
      use(rack, [size], () => bound)
      await settle()
      assert.equal(magazine.count, bound, 'as many as it may keep it keeps')
      use(rack, [size], () => bound + 2)
      assert.equal(magazine.count, bound + 2, 'within the turn it keeps all')
      await settle()
      assert.ok(magazine.count <= bound, `${magazine.count} blocks`)
    })
  }

  test('a rack keeps at most 64 MiB in all its magazines', async () => {
    const rack = openRack()
    const sizes = [1, 2, 4, 8, 16].map((mib) => mib * MIB)
    use(rack, sizes, (size) => (32 * MIB) / size)
    assert.equal(idleBytes(rack), 5 * 32 * MIB, 'within the turn it keeps all')
    await settle()
    assert.ok(idleBytes(rack) <= RACK_BYTES, `${idleBytes(rack) / MIB} MiB`)
    assert.ok(idleBytes(rack) > 0)
  })
})

test('A fill fetches a batch from the depot, and one block from the operating system', {
  skip: !external
}, async () => {
  const rack = openRack()
  const magazine = rack.magazineOf(classOf(4096))
  use(rack, [4096], () => 1)
  assert.equal(magazine.count, 1)
  use(rack, [4096], () => 6000)
  await settle()
  assert.ok(magazine.count < 6000, 'some are in the depot')
  rack.caretaker.recallBytes(Infinity, false, Infinity)
  await settle()
  use(rack, [4096], () => 1)
  assert.equal(magazine.count, 8)
  assert.equal(rack.stats().freshCount, 6000)
})

test('Every class has a magazine of its block size', () => {
  assert.deepEqual(
    openRack().magazines.map(({ blockSize }) => blockSize),
    blockSizes
  )
})
