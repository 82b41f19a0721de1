'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { heatCount, holdHeats } = require('../runner/heats')

const PASSES = 2

function candidates(...names) {
  return names.map((settings) => ({ settings, flags: [], env: {} }))
}

/** Returns a race whose figures are known, heat by heat. */
function race(figures) {
  const held = {}
  return async ({ settings }) => {
    const heat = held[settings] ?? 0
    held[settings] = heat + 1
    const figure = figures[settings][heat]
    if (figure instanceof Error) throw figure
    return figure
  }
}

test('the lowest of the heats decides, not a lucky one', async () => {
  const figures = { slow: [10], lucky: [200, 20], steady: [80, 90] }
  const heats = await holdHeats(candidates('slow', 'lucky', 'steady'), PASSES, race(figures))
  assert.deepEqual(
    heats.map(({ settings, requestsPerSecond }) => [settings, requestsPerSecond]),
    [
      ['steady', 80],
      ['lucky', 20],
      ['slow', 10]
    ]
  )
})

test('each pass runs all remaining candidates, so that none alone has a quiet minute', async () => {
  const order = []
  await holdHeats(candidates('a', 'b'), PASSES, async ({ settings }) => {
    order.push(settings)
    return settings === 'a' ? 2 : 1
  })
  assert.deepEqual(order, ['a', 'b', 'a', 'b'])
})

test('the better half continues, and wins over a single better heat of the others', async () => {
  const figures = { a: [40, 5], b: [10], c: [30, 20], d: [25] }
  const names = Object.keys(figures)
  const heats = await holdHeats(candidates(...names), PASSES, race(figures))
  assert.deepEqual(
    heats.map(({ settings, heats }) => [settings, heats.length]),
    [
      ['c', 2],
      ['a', 2],
      ['d', 1],
      ['b', 1]
    ]
  )
  assert.equal(heatCount(4, PASSES), 6)
  assert.equal(heatCount(1, PASSES), 0)
})

test('a candidate that fails comes last with its reason', async () => {
  const figures = { broken: [9, new Error('refused')], sound: [1, 1] }
  const heats = await holdHeats(candidates('broken', 'sound'), PASSES, race(figures))
  assert.equal(heats[0].settings, 'sound')
  assert.equal(heats[1].error, 'refused')
})

test('a single candidate needs no heat', async () => {
  const [winner] = await holdHeats(candidates('only'), PASSES, () => assert.fail('a heat'))
  assert.equal(winner.settings, 'only')
})
