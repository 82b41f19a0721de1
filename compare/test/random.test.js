'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { random, shuffled } = require('../random')

test('the same seed gives the same numbers, another seed others', () => {
  const draw = (seed) => {
    const next = random(seed)
    return Array.from({ length: 8 }, () => next())
  }
  assert.deepEqual(draw(1), draw(1))
  assert.notDeepEqual(draw(1), draw(2))
})

test('the numbers fill the range from 0 to below 1 evenly', () => {
  const next = random(7)
  const tenths = new Array(10).fill(0)
  for (let drawn = 0; drawn < 10_000; drawn++) tenths[Math.floor(next() * 10)]++
  assert.ok(
    tenths.every((count) => count > 900 && count < 1100),
    tenths.join()
  )
})

test('shuffling keeps every item and leaves the original alone', () => {
  const items = Object.freeze(['a', 'b', 'c', 'd', 'e'])
  const order = shuffled(items, random(3))
  assert.deepEqual([...order].sort(), items)
})

test('over some rounds no arm always comes first', () => {
  const next = random(2)
  const first = new Set()
  for (let round = 0; round < 20; round++) first.add(shuffled(['a', 'b', 'c'], next)[0])
  assert.equal(first.size, 3)
})
