'use strict'

/**
 * A magazine by itself: the idle blocks of one size class in one thread. Start here to read the
 * cache.
 *
 * - The block that was put last is taken first: its memory is most likely in the processor's
 *   caches.
 * - A block that was taken links to no other: otherwise the garbage collector could not collect it.
 * - A magazine never drops a block. It only counts the blocks that were not needed, and cuts off as
 *   many as its caller wants.
 * - `capacity` bounds what stays from one event-loop turn to the next; `batch`, what one fetch
 *   brings.
 *
 * The thread cache holds a magazine to its capacity (`thread-cache.test.js`), the trimmer asks it
 * for what is unused (`trimmer.test.js`).
 */

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const { Magazine } = require('../../lib/cache/magazine')

const KIB = 1024
const MIB = 1024 * KIB

/** Returns a stand-in for a slot, with all that a magazine reads of one. */
const slotOf = (/** @type {number} */ row) =>
  /** @type {any} */ ({ row, generation: 1, next: null })

/** Returns a magazine with slots of the rows 0 to `count - 1`, put in that order. */
function filled(count, blockSize = 64) {
  const magazine = new Magazine(0, blockSize)
  for (let row = 0; row < count; row++) put(magazine, slotOf(row))
  return magazine
}

/** Puts a slot as a release does: it becomes the top, and the last top goes onto the stack. */
function put(magazine, slot) {
  if (magazine.top !== null) magazine.push(magazine.top)
  magazine.top = slot
}

/** Takes a slot for a lease. */
function lease(magazine) {
  const slot = magazine.take()
  slot.generation++
  return slot
}

/** Returns the rows of a list of slots, linked by `next`. */
function rowsOf(slot) {
  const rows = []
  for (let each = slot; each !== null; each = each.next) rows.push(each.row)
  return rows
}

describe('take', () => {
  test('returns the slot that was put last', () => {
    const magazine = filled(3)
    assert.deepEqual([magazine.take().row, magazine.take().row, magazine.take().row], [2, 1, 0])
  })

  test('returns undefined where the magazine is empty', () => {
    const magazine = filled(1)
    magazine.take()
    assert.equal(magazine.take(), undefined)
    assert.equal(magazine.count, 0)
  })

  test('returns a slot that links to no other', () => {
    const magazine = filled(3)
    for (let i = 0; i < 3; i++) assert.equal(magazine.take().next, null)
  })

  test('keeps the stack as it is where a lease and a release take turns', () => {
    const magazine = filled(3)
    const { stack, depth } = magazine
    for (let i = 0; i < 10; i++) put(magazine, lease(magazine))
    assert.equal(magazine.stack, stack)
    assert.deepEqual([depth, magazine.depth, magazine.count], [2, 2, 3])
  })
})

describe('capacity and batch', () => {
  for (const [blockSize, capacity, batch] of [
    [64, 4096, 8],
    [8 * KIB, 4096, 8],
    [64 * KIB, 512, 4],
    [256 * KIB, 128, 1],
    [32 * MIB, 1, 1],
    [128 * MIB, 1, 1]
  ]) {
    test(`are ${capacity} and ${batch} for blocks of ${blockSize} bytes`, () => {
      const magazine = new Magazine(0, blockSize)
      assert.deepEqual([magazine.capacity, magazine.batch], [capacity, batch])
    })
  }

  test('refuse no slot: within a turn a magazine takes more', () => {
    const magazine = filled(5, 32 * MIB)
    assert.equal(magazine.capacity, 1)
    assert.equal(magazine.count, 5)
  })
})

describe('takeUnused', () => {
  test('returns 0 the first time: each slot has come since', () => {
    assert.equal(filled(5).takeUnused(), 0)
  })

  test('returns how many slots nobody has taken since it was called last', () => {
    const magazine = filled(5)
    magazine.takeUnused()
    const leased = [lease(magazine), lease(magazine)]
    for (const slot of leased.reverse()) put(magazine, slot)
    assert.equal(magazine.count, 5)
    assert.equal(magazine.takeUnused(), 3)
  })

  test('counts by the moment at which the fewest were idle', () => {
    const magazine = filled(5)
    magazine.takeUnused()
    const leased = [1, 2, 3, 4].map(() => lease(magazine))
    for (const slot of leased.reverse()) put(magazine, slot)
    // A lower demand later in the interval changes nothing.
    put(magazine, lease(magazine))
    assert.equal(magazine.takeUnused(), 1)
  })

  test('counts the top as well, unless it was leased meanwhile', () => {
    const magazine = filled(5)
    magazine.takeUnused()
    assert.equal(magazine.takeUnused(), 5, 'nothing was leased')
    put(magazine, lease(magazine))
    assert.equal(magazine.takeUnused(), 0, 'of those that it has returned, none is counted again')
  })

  test('removes nothing itself', () => {
    const magazine = filled(5)
    magazine.takeUnused()
    magazine.takeUnused()
    assert.equal(magazine.count, 5)
  })
})

describe('cut', () => {
  test('takes the slots at the bottom, the upper ones first', () => {
    const magazine = filled(5)
    assert.deepEqual(rowsOf(magazine.cut(2)), [1, 0])
    assert.deepEqual(
      [4, 3, 2].map(() => magazine.take().row),
      [4, 3, 2]
    )
  })

  test('takes the top last', () => {
    const magazine = filled(3)
    assert.deepEqual(rowsOf(magazine.cut(3)), [2, 1, 0])
    assert.deepEqual([magazine.count, magazine.take()], [0, undefined])
  })

  test('takes slots from above where more than the capacity stay: it passes none of those', () => {
    const magazine = filled(5, 32 * MIB)
    assert.deepEqual(rowsOf(magazine.cut(2)), [3, 2])
    assert.deepEqual([magazine.take().row, magazine.take().row, magazine.take().row], [4, 1, 0])
  })

  test('has the slots that stay count as unused no more than there are', () => {
    const magazine = filled(5)
    magazine.takeUnused()
    magazine.cut(3)
    assert.ok(magazine.takeUnused() <= magazine.count)
  })
})
