'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { unitOf } = require('../analysis/unit')
const { outcomeOf, verdict } = require('../analysis/verdict')

function ratio(value, low, high, rounds = 3) {
  return { speed: { value, low, high, rounds } }
}

const clearGain = {
  unit: unitOf({}),
  candidate: 'pool-safe',
  baseline: 'v8-allocUnsafe',
  settings: 'jemalloc',
  toBaseline: {
    ...ratio(5.12, 4.9, 5.3),
    gcTimeMs: { value: 0.1, low: 0.08, high: 0.12, rounds: 3 },
    rssPeakBytes: { value: 0.45, low: 0.44, high: 0.47, rounds: 3 }
  },
  toTuned: ratio(1.8, 1.7, 1.9),
  toLimit: ratio(0.88, 0.85, 0.9),
  tunedToBaseline: ratio(2.8, 2.6, 3),
  unsafeToBaseline: {}
}

test('a clear gain names the baseline, the tuned V8, the limit, collection time and memory', () => {
  assert.equal(
    verdict(clearGain),
    "Pooling pays here: pool-safe serves 5.1 times (4.9 to 5.3) the requests per second of Buffer.allocUnsafe, 1.80 times (1.70 to 1.90) those of the best tuned V8 (jemalloc) and 88 % (85 to 90 %) of the limit that one static buffer sets, with 0.10 times (0.08 to 0.12) the baseline's garbage collection time and 0.45 times (0.44 to 0.47) its peak memory."
  )
})

test('if settings may gain as much, the verdict says to try them first', () => {
  const told = verdict({ ...clearGain, toTuned: ratio(1.05, 0.97, 1.2) })
  assert.match(told, /^Pooling beats V8's defaults here, but settings may do as well: /)
  assert.match(told, /; start Node with jemalloc first\.$/)
})

test('settings that beat the pool are recommended instead of it', () => {
  const told = verdict({ ...clearGain, toTuned: ratio(0.8, 0.7, 0.9) })
  assert.match(told, /^Settings beat pooling here: .*; start Node with jemalloc\.$/)
})

test('an interval that holds 1 is no gain', () => {
  const told = verdict({
    ...clearGain,
    toBaseline: ratio(1.1, 0.95, 1.3),
    tunedToBaseline: ratio(1.02, 0.9, 1.1)
  })
  assert.match(told, /^Pooling makes no clear difference here: .*; keep Buffer\.allocUnsafe\.$/)
})

test('the verdict names a loss, and the settings that help', () => {
  const told = verdict({ ...clearGain, toBaseline: ratio(0.7, 0.6, 0.8) })
  assert.match(told, /^Pooling costs more than it brings here: /)
  assert.match(
    told,
    /; keep Buffer\.allocUnsafe and start Node with jemalloc, for 2\.80 times \(2\.60 to 3\.00\) its requests per second\.$/
  )
})

test('if only the safe release costs too much, the verdict names the other one', () => {
  const told = verdict({
    ...clearGain,
    toBaseline: ratio(0.8, 0.7, 0.9),
    tunedToBaseline: ratio(1, 0.9, 1.1),
    unsafeToBaseline: ratio(41.8, 40, 43)
  })
  assert.match(
    told,
    /; keep Buffer\.allocUnsafe; or take detachOnRelease: false, for 42 times \(40 to 43\) its requests per second without the safe release\.$/
  )
})

test('no verdict says to start Node with the defaults', () => {
  const told = verdict({
    ...clearGain,
    settings: 'the defaults',
    toTuned: ratio(0.9, 0.8, 1.1)
  })
  assert.match(told, /; take more rounds with --full first\.$/)
})

test('the verdict blames a machine that left the servers no core, for any ratios', () => {
  for (const toBaseline of [ratio(2, 1.9, 2.1), ratio(1, 0.9, 1.1)]) {
    const told = verdict({ ...clearGain, toBaseline, starved: true })
    assert.match(told, /^The machine was too busy for a verdict: .* run it again\.$/)
  }
})

test('the verdict blames a baseline that differs from itself, for any ratios', () => {
  const noisy = { ratio: { value: 1.2, low: 1.1, high: 1.4, rounds: 5 }, holds: false }
  const told = verdict({ ...clearGain, control: noisy })
  assert.match(
    told,
    /^The machine was too noisy for a claim, v8-allocUnsafe against itself came out at 1\.20 times \(1\.10 to 1\.40\): .*--full\.$/
  )
  const quiet = { ratio: { value: 1.01, low: 0.98, high: 1.02, rounds: 5 }, holds: true }
  assert.match(verdict({ ...clearGain, control: quiet }), /^Pooling pays here/)
})

test('a gain that chance alone can bring is too noisy to tell', () => {
  const noise = { value: 1.1, low: 0.3, high: 4.95, rounds: 5 }
  assert.match(
    verdict({ ...clearGain, noise }),
    /^Too noisy to tell: .*, and v8-allocUnsafe is 1\.10 times \(0\.30 to 4\.95\) as fast as itself; .*--full\.$/
  )
  assert.match(verdict({ ...clearGain, noise: { ...noise, high: 4.8 } }), /^Pooling pays here: /)
})

test('an interval that holds a large gain and a large loss is too noisy to tell', () => {
  for (const [value, low, high] of [
    [1.2, 0.4, 2.52],
    [0.9, 0.6, 1.2],
    [1.3, 0.95, 2]
  ]) {
    const roles = { ...clearGain, toBaseline: ratio(value, low, high) }
    assert.equal(outcomeOf(roles), 'noisy')
    assert.match(verdict(roles), /^Too noisy to tell: pool-safe .*; close other programs/)
  }
})

test('a loss that is too large for chance is a loss, however uncertain its size', () => {
  const noise = { value: 1, low: 0.9, high: 1.1, rounds: 5 }
  assert.equal(outcomeOf({ ...clearGain, toBaseline: ratio(0.7, 0.44, 0.97), noise }), 'costs')
  assert.equal(outcomeOf({ ...clearGain, toBaseline: ratio(0.95, 0.9, 0.99), noise }), 'same')
})

test('the verdict on a loop counts operations, and names its own baseline', () => {
  const told = verdict({
    ...clearGain,
    unit: unitOf({ unit: 'operation' }),
    baseline: 'v8-concat',
    toBaseline: ratio(0.5, 0.4, 0.6),
    tunedToBaseline: {}
  })
  assert.match(
    told,
    /pool-safe does 0\.50 times \(0\.40 to 0\.60\) the operations per second of v8-concat, /
  )
  assert.match(told, /; keep v8-concat\.$/)
})

test('one round has no interval, and claims nothing', () => {
  const once = {
    ...clearGain,
    toBaseline: ratio(2, 2, 2, 1),
    toTuned: ratio(1.5, 1.5, 1.5, 1),
    toLimit: ratio(0.9, 0.9, 0.9, 1)
  }
  assert.equal(
    verdict(once),
    'One round makes no verdict: pool-safe serves 2.00 times the requests per second of Buffer.allocUnsafe, 1.50 times those of the best tuned V8 (jemalloc) and 90 % of the limit that one static buffer sets; take more with --runs.'
  )
})

test('arms that did not run are left out', () => {
  const told = verdict({ ...clearGain, toBaseline: ratio(2, 1.9, 2.1), toTuned: {}, toLimit: {} })
  assert.equal(
    told,
    'Pooling pays here: pool-safe serves 2.00 times (1.90 to 2.10) the requests per second of Buffer.allocUnsafe.'
  )
})

test('without the pool or the baseline there is no verdict', () => {
  const told = verdict({ ...clearGain, toBaseline: {} })
  assert.match(told, /^No verdict: /)
})

test('a verdict is one sentence', () => {
  for (const toTuned of [{}, ratio(1.5, 1.4, 1.6), ratio(1, 0.9, 1.1), ratio(0.5, 0.4, 0.6)]) {
    for (const toBaseline of [{}, ratio(2, 1.9, 2.1), ratio(1, 0.9, 1.1), ratio(0.5, 0.4, 0.6)]) {
      const told = verdict({ ...clearGain, toTuned, toBaseline })
      assert.match(told, /\.$/)
      assert.doesNotMatch(told, /[.!?] /)
    }
  }
})
