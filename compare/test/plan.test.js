'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { makePlan, workloadSeconds } = require('../runner/plan')

/** As many settings as a machine with every allocator offers. */
const CANDIDATES = 12
const ARMS = 7
const WORKLOADS = 3

test('a usual run has three rounds and is planned to take less than 190 s', () => {
  const plan = makePlan()
  assert.equal(plan.rounds, 3)
  const seconds = WORKLOADS * workloadSeconds(plan, { arms: ARMS, candidates: CANDIDATES })
  assert.ok(seconds < 190, `${seconds} s`)
})

test('--full takes more rounds of longer duration', () => {
  const [usual, full] = [makePlan(), makePlan({ full: true })]
  assert.ok(full.rounds > usual.rounds)
  assert.ok(full.run.durationSeconds > usual.run.durationSeconds)
})

test('--runs and --duration win over the defaults and over --full', () => {
  for (const full of [false, true]) {
    const plan = makePlan({ runs: 1, duration: 0.2, full })
    assert.equal(plan.rounds, 1)
    assert.equal(plan.run.durationSeconds, 0.2)
    assert.ok(plan.run.warmupSeconds <= 0.2)
    assert.ok(plan.heat.durationSeconds <= 0.2)
  }
})

test('where there is nothing to choose from, no heat is planned', () => {
  const plan = makePlan({ runs: 1 })
  const one = workloadSeconds(plan, { arms: ARMS, candidates: 1 })
  assert.ok(one < workloadSeconds(plan, { arms: ARMS, candidates: 2 }))
})
