'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { median, sampleWithReplacement } = require('simple-statistics')
const { analyse } = require('../analysis')
const { describeInterval, intervalOfMedian } = require('../analysis/interval')
const { medians } = require('../analysis/medians')
const { pairedRatios } = require('../analysis/ratio')

function runs(metric, ...values) {
  return values.map((value, index) => ({ round: index + 1, [metric]: value }))
}

test('the median of each metric is that of its runs', () => {
  assert.deepEqual(medians(runs('requestsPerSecond', 30, 10, 20)), { requestsPerSecond: 20 })
  assert.deepEqual(medians(runs('gcCount', 1, 2)), { gcCount: 1.5 })
})

test('a metric that no run has has no median', () => {
  assert.deepEqual(medians([]), {})
  assert.deepEqual(medians([{ round: 1, errors: 0, cpuMicrosPerRequest: null }]), { errors: 0 })
})

test('a ratio pairs the runs of the same round', () => {
  const slowingDown = pairedRatios(
    runs('requestsPerSecond', 200, 20, 2),
    runs('requestsPerSecond', 100, 10, 1)
  )
  assert.deepEqual(slowingDown, { requestsPerSecond: { value: 2, low: 2, high: 2, rounds: 3 } })
})

test('its value is the median of the rounds, its interval their lowest and highest', () => {
  const { requestsPerSecond } = pairedRatios(
    runs('requestsPerSecond', 30, 20, 50),
    runs('requestsPerSecond', 10, 10, 10)
  )
  assert.deepEqual(requestsPerSecond, { value: 3, low: 2, high: 5, rounds: 3 })
})

test('the interval is that of the bootstrap: the lowest and the highest until rounds suffice', () => {
  const ascending = (count) => Array.from({ length: count }, (_, index) => index + 1)
  const expected = new Map([
    [1, [1, 1]],
    [3, [1, 3]],
    [5, [1, 5]],
    [6, [1, 6]],
    [7, [2, 6]],
    [9, [2, 8]],
    [12, [3, 10]],
    [15, [4, 12]],
    [20, [6, 15]]
  ])
  for (const [count, [low, high]] of expected) {
    assert.deepEqual(intervalOfMedian(ascending(count).reverse()), { low, high }, `${count} values`)
  }
  assert.match(describeInterval(5), /^95 % bootstrap interval .* the lowest and the highest$/)
  assert.match(describeInterval(7), /^95 % bootstrap interval .* paired by round$/)
})

test('the interval equals that of random resampling', () => {
  const values = Array.from({ length: 15 }, () => Math.random())
  const drawn = Array.from({ length: 20_000 }, () => median(sampleWithReplacement(values, 15)))
  const { low, high } = intervalOfMedian(values)
  const share = drawn.filter((one) => one >= low && one <= high).length / drawn.length
  assert.ok(share >= 0.945, `${share} of the medians lie inside`)
  const inside = drawn.filter((one) => one > low && one < high).length / drawn.length
  assert.ok(inside < 0.955, `${inside} of them would do with less`)
})

test('the control arm holds if its interval contains 1', () => {
  const control = (...values) => ({
    ...experiment({ 'v8-allocUnsafe': steady(100) }),
    arms: [
      ...experiment({ 'v8-allocUnsafe': steady(100), 'pool-safe': steady(200) }).arms,
      {
        name: 'v8-allocUnsafe again',
        role: 'control',
        runs: values.map((requestsPerSecond, i) => ({ round: i + 1, requestsPerSecond, errors: 0 }))
      }
    ]
  })
  const quiet = analyse(control(99, 100, 101))
  assert.deepEqual(quiet.control, {
    name: 'v8-allocUnsafe again',
    ratio: { value: 1, low: 0.99, high: 1.01, rounds: 3 },
    holds: true
  })
  assert.match(quiet.verdict, /^Pooling pays/)
  const noisy = analyse(control(110, 120, 130))
  assert.equal(noisy.control.holds, false)
  assert.match(noisy.verdict, /^The machine was too noisy/)
  assert.deepEqual([quiet.outcome, noisy.outcome], ['pays', 'noisy'])
})

test('a verdict compares loops by speed, but their ratios are those of time', () => {
  const loops = experiment({ 'v8-allocUnsafe': [], 'pool-safe': [], static: [] })
  const times = [400, 100, 50]
  for (const [index, arm] of loops.arms.entries()) {
    arm.runs = [1, 2, 3].map((round) => ({ round, nsPerOperation: times[index], errors: 0 }))
  }
  const analysed = analyse({ ...loops, unit: 'operation' })
  assert.equal(analysed.arms[1].ratio.nsPerOperation.value, 0.25)
  assert.equal(analysed.ratios.toLimit['pool-safe'].value, 2)
  assert.match(
    analysed.verdict,
    /^Pooling pays here: pool-safe does 4\.0 times \(.*\) the operations/
  )
})

test('a ratio omits a round that one of the arms lacks', () => {
  const { requestsPerSecond } = pairedRatios(
    [
      { round: 1, requestsPerSecond: 8 },
      { round: 3, requestsPerSecond: 9 }
    ],
    runs('requestsPerSecond', 4, 1)
  )
  assert.deepEqual(requestsPerSecond, { value: 2, low: 2, high: 2, rounds: 1 })
})

test('there is no ratio to nothing', () => {
  assert.deepEqual(pairedRatios(runs('gcCount', 3), runs('gcCount', 0)), {})
  assert.deepEqual(pairedRatios(runs('gcCount', 3), []), {})
})

function experiment(arms) {
  return {
    name: 'proxy',
    baseline: 'v8-allocUnsafe',
    arms: Object.entries(arms).map(([name, figures]) => ({
      name,
      runs: figures.map((run, index) => ({
        round: index + 1,
        errors: 0,
        clientCpuShare: 0.3,
        serverCpuShare: 1,
        ...run
      }))
    }))
  }
}

const steady = (requestsPerSecond, more = {}) => Array(3).fill({ requestsPerSecond, ...more })

test('analysing adds medians, ratios, warnings and a verdict and leaves the raw experiment alone', () => {
  const raw = experiment({ 'v8-allocUnsafe': steady(100), 'pool-safe': steady(200) })
  const before = structuredClone(raw)
  const analysed = analyse(raw)
  assert.deepEqual(raw, before)
  const pool = analysed.arms[1]
  assert.equal(pool.median.requestsPerSecond, 200)
  assert.equal(pool.ratio.requestsPerSecond.value, 2)
  assert.deepEqual(analysed.warnings, [])
  assert.match(analysed.verdict, /^Pooling pays here: pool-safe serves 2\.00 times/)
})

test('with a starved baseline the verdict is about the machine', () => {
  const raw = experiment({
    'v8-allocUnsafe': steady(100, { serverCpuShare: 0.6 }),
    'pool-safe': steady(200)
  })
  assert.match(analyse(raw).verdict, /^The machine was too busy/)
})

function warningsOf(arms) {
  return analyse(experiment(arms)).warnings
}

test('a warning names a busy load client, its share and a remedy', () => {
  const [warning, ...others] = warningsOf({ static: steady(9, { clientCpuShare: 0.91 }) })
  assert.match(
    warning,
    /load client used more than 80 % of a core in a round \(static 91 %\).*Compare CPU/
  )
  assert.deepEqual(others, [])
})

test('a warning names a server that waited, even in a single round', () => {
  const rounds = [{ serverCpuShare: 0.5 }, {}, {}].map((run) => ({ requestsPerSecond: 9, ...run }))
  const [warning] = warningsOf({ static: rounds })
  assert.match(
    warning,
    /server had less than 85 % of a core in a round \(static 50 %\).*Close other programs/
  )
})

test('a warning counts failed requests', () => {
  const [warning] = warningsOf({ static: steady(9, { errors: 2 }) })
  assert.match(warning, /^6 requests to static failed/)
})

test('a warning says that fewer than three rounds are too few', () => {
  assert.match(warningsOf({ static: steady(9).slice(0, 1) })[0], /^Only 1 round: .*--runs 3/)
  assert.match(warningsOf({ static: steady(9).slice(0, 2) })[0], /^Only 2 rounds: /)
})

test('a warning names an arm that differs much between rounds, and no other', () => {
  const unsteady = [100, 200, 300].map((requestsPerSecond) => ({ requestsPerSecond }))
  const [warning, ...others] = warningsOf({ static: steady(100), 'v8-allocUnsafe': unsteady })
  assert.match(warning, /differ much \(v8-allocUnsafe 100 % from/)
  assert.deepEqual(others, [])
})

test('arms that failed for the same reason share a warning with their last output', () => {
  const raw = experiment({ static: steady(9), 'pool-safe': [], 'pool-gc': [] })
  for (const arm of raw.arms.slice(1)) arm.error = { message: 'no addon', output: 'the tail' }
  const [warning, ...others] = analyse(raw).warnings
  assert.match(warning, /^pool-safe, pool-gc failed: no addon\..*output:\nthe tail$/)
  assert.deepEqual(others, [])
})
