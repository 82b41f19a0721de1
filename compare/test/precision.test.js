'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { isPrecise } = require('../analysis/precision')
const { experiments } = require('../experiments')
const { Comparison } = require('../runner/comparison')
const { makePlan } = require('../runner/plan')

function withRatio(ratio, unit = 'request') {
  const metric = unit === 'request' ? 'requestsPerSecond' : 'nsPerOperation'
  return { unit, arms: [{ name: 'pool-safe', ratio: { [metric]: ratio } }] }
}

test('a ratio is known well enough when its interval is narrow to both sides', () => {
  assert.ok(isPrecise(withRatio({ value: 2, low: 1.97, high: 2.03 }), 0.02))
  assert.ok(!isPrecise(withRatio({ value: 2, low: 1.95, high: 2 }), 0.02))
  assert.ok(!isPrecise(withRatio({ value: 2, low: 2, high: 2.05 }), 0.02))
  assert.ok(isPrecise(withRatio({ value: 0.5, low: 0.495, high: 0.505 }, 'operation'), 0.02))
  const failed = { arms: [{ name: 'pool-safe', ratio: {} }] }
  assert.ok(isPrecise(failed, 0.02), 'what failed gets no better')
})

test('only --full, and no number of rounds of the user, asks for precision', () => {
  assert.equal(makePlan({ full: true }).precision, 0.02)
  assert.equal(makePlan({ full: true, runs: 3 }).precision, undefined)
  assert.equal(makePlan().precision, undefined)
})

test('rounds continue until the ratio is precise, up to three times as many', async () => {
  const experiment = experiments.find(({ name }) => name === 'byte-buffer')
  const waste = experiment.workloads.find(({ variant }) => variant === 'waste')
  const arms = (waste.arms ?? experiment.arms).filter(({ name }) =>
    ['v8-allocUnsafe', 'pool-safe'].includes(name)
  )
  for (const [precision, rounds] of [
    [0, 6],
    [Infinity, 2]
  ]) {
    let extended = 0
    const silent = () => {}
    const result = await new Comparison({
      plan: { ...makePlan({ runs: 2, duration: 0.1 }), precision },
      programs: {},
      candidates: [],
      signal: new AbortController().signal,
      observer: {
        planned: silent,
        changed: silent,
        finished: silent,
        step: silent,
        stepped: silent,
        skipped: silent,
        extended: () => extended++
      }
    }).run([{ ...experiment, workloads: [{ ...waste, arms }] }])
    const [{ arms: measured }] = result.experiments
    assert.deepEqual(
      measured.map(({ runs, error }) => error ?? runs.length),
      [rounds, rounds, rounds]
    )
    assert.equal(extended, rounds - 2)
  }
})
