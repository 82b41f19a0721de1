'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { plotsOf } = require('../report/html/plots')
const { latency } = require('../report/html/plots/latency')
const { memory } = require('../report/html/plots/memory')
const { pauses } = require('../report/html/plots/pauses')
const measured = require('./fixtures/measured-result')

function experimentOf(...runs) {
  return { arms: [{ name: 'arm', runs, median: { requestsPerSecond: 1 } }] }
}

/** Returns the only line of a plot, as pairs. */
function pairs({ x, views: [{ values }] }) {
  return x.map((place, index) => [place, values[0][index]])
}

test('each plot has a line per arm that ran, and not for the control', () => {
  const [buffers, proxy, loop] = measured().experiments
  const arms = buffers.arms.map(({ name }) => name).filter((name) => !name.endsWith('again'))
  for (const [experiment, expected] of [
    [buffers, arms],
    [proxy, arms.filter((name) => name !== 'pool-gc')]
  ]) {
    const plots = plotsOf(experiment, 'place')
    assert.deepEqual(
      plots.map(({ id }) => id),
      ['place-memory', 'place-latency', 'place-pauses']
    )
    for (const plot of plots) {
      assert.deepEqual(plot.arms, expected)
      for (const { values } of plot.views) {
        assert.equal(values.length, expected.length)
        assert.ok(values.every((line) => line.length === plot.x.length))
        assert.ok(values.every((line) => line.some(Number.isFinite)))
      }
    }
  }
  assert.deepEqual(
    plotsOf(loop, 'place').map(({ kind }) => kind),
    ['memory', 'pauses']
  )
})

test('memory is that of the round in the middle, between its samples', () => {
  const series = (bytes) => ({ atMs: [0, 50, 100], rssBytes: bytes.map((mega) => mega * 1e6) })
  const plot = memory(
    experimentOf(
      { requestsPerSecond: 1, series: series([1, 1, 1]) },
      { requestsPerSecond: 3, series: series([3, 3, 3]) },
      { requestsPerSecond: 2, series: series([10, 20, 40]) }
    )
  )
  assert.deepEqual(pairs(plot), [
    [0, 10],
    [0.05, 20],
    [0.1, 40]
  ])
  assert.deepEqual(
    plot.views.map(({ label }) => label),
    ['Resident']
  )
})

test('memory begins and ends where the samples of an arm do', () => {
  const two = {
    arms: [
      ['short', [25, 30]],
      ['long', [0, 10, 20, 30, 40, 50]]
    ].map(([name, atMs]) => ({
      name,
      runs: [{ requestsPerSecond: 1, series: { atMs, rssBytes: atMs.map((at) => at * 1e6) } }],
      median: {}
    }))
  }
  const { x, views } = memory(two)
  assert.deepEqual(x, [0, 0.01, 0.02, 0.03, 0.04, 0.05])
  assert.deepEqual(views[0].values, [
    [null, null, 25, 30, null, null],
    [0, 10, 20, 30, 40, 50]
  ])
})

test('memory of many samples is drawn with few points', () => {
  const atMs = Array.from({ length: 5000 }, (_, index) => index * 25)
  const rssBytes = atMs.map((at) => at * 1e6)
  const { x, views } = memory(experimentOf({ requestsPerSecond: 1, series: { atMs, rssBytes } }))
  assert.equal(x.length, 400)
  assert.ok(Math.abs(views[0].values[0][399] - atMs.at(-1)) < 1)
})

test('percentiles are read off the histogram of all rounds', () => {
  const run = { latency: { edgesMs: [1, 2, 4], counts: [500, 400, 100] } }
  const line = new Map(pairs(latency(experimentOf(run, run))))
  assert.equal(line.get(2), 1)
  assert.equal(line.get(10), 2)
  assert.equal(line.get(100), 3.8)
  // Of 2,000 replies 2 are slower than the percentile 99.9: too few to tell.
  assert.equal(line.get(1000), undefined)
})

test('histograms whose empty ends are cut differently add up', () => {
  const line = new Map(
    pairs(
      latency(
        experimentOf(
          { latency: { edgesMs: [2, 4], counts: [100, 100] } },
          { latency: { edgesMs: [4, 8], counts: [100, 100] } }
        )
      )
    )
  )
  assert.equal(line.get(2), 3)
  assert.equal(latency(experimentOf({ latency: { edgesMs: [], counts: [] } })), undefined)
})

test('pauses are drawn by rank, and summed up by kind', () => {
  const pause = (ms, kind, external = false) => ({ atMs: 0, ms, kind, external })
  const plot = pauses(
    experimentOf({
      requestsPerSecond: 1,
      pauses: [pause(1, 'scavenge'), pause(3, 'mark-compact', true), pause(2, 'scavenge')]
    })
  )
  assert.deepEqual(pairs(plot), [
    [1, 3],
    [2, 2],
    [3, 1]
  ])
  assert.deepEqual(plot.kinds, {
    names: ['mark-compact', 'scavenge'],
    rows: [
      {
        arm: 'arm',
        kinds: [
          { count: 1, ms: 3 },
          { count: 2, ms: 3 }
        ],
        external: 1
      }
    ]
  })
  assert.equal(pauses(experimentOf({ requestsPerSecond: 1, pauses: [] })), undefined)
})

test('of thousands of pauses the first and the last are drawn, and few between', () => {
  const many = Array.from({ length: 9000 }, (_, index) => ({ ms: index + 1, kind: 'scavenge' }))
  const { x } = pauses(experimentOf({ requestsPerSecond: 1, pauses: many }))
  assert.equal(x[0], 1)
  assert.equal(x.at(-1), 9000)
  assert.ok(x.length < 120, `${x.length}`)
})
