'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { experiments } = require('../experiments')
const { makePlan, scheduleOf, workloadSeconds } = require('../runner/plan')
const { secondsOfTasks, tasksOf } = require('../runner/task')

/** The settings of a machine with every allocator. */
const CANDIDATES = 12
const ARMS = 7

function secondsOfAll(options) {
  const plan = makePlan(options)
  const tasks = experiments.flatMap((experiment) => tasksOf(experiment, plan))
  return secondsOfTasks(tasks, plan, CANDIDATES)
}

test('a usual run is planned to take less than four minutes', () => {
  const seconds = secondsOfAll()
  assert.ok(seconds < 225, `${seconds} s`)
})

test('--full takes more rounds of longer duration, of every workload', () => {
  const [usual, full] = [makePlan(), makePlan({ full: true })]
  for (const workload of experiments.flatMap((experiment) => experiment.workloads)) {
    const [short, long] = [scheduleOf(usual, workload), scheduleOf(full, workload)]
    assert.ok(long.rounds > short.rounds)
    assert.ok(long.run.durationSeconds > short.run.durationSeconds)
  }
})

test('--runs and --duration win over the defaults, over --full and over the pace of a workload', () => {
  const pace = {
    usual: { rounds: 3, durationSeconds: 1 },
    full: { rounds: 3, durationSeconds: 1 }
  }
  for (const full of [false, true]) {
    for (const workload of [{}, { pace }]) {
      const { rounds, run, heat } = scheduleOf(makePlan({ runs: 1, duration: 0.2, full }), workload)
      assert.equal(rounds, 1)
      assert.equal(run.durationSeconds, 0.2)
      assert.ok(run.warmupSeconds <= 0.2)
      assert.ok(heat.durationSeconds <= 0.2)
    }
  }
})

test('every process holds the heap of a small application, or as much as is asked for', () => {
  assert.equal(makePlan().heapMiB, 8)
  assert.equal(makePlan({ full: true }).heapMiB, 8)
  assert.equal(makePlan({ heap: 0 }).heapMiB, 0)
})

test('a workload has its own connections, rounds and windows', () => {
  const workload = { connections: 3, pace: { usual: { rounds: 2, durationSeconds: 7 } } }
  const { rounds, run } = scheduleOf(makePlan(), workload)
  assert.deepEqual([rounds, run.durationSeconds, run.connections], [2, 7, 3])
})

test('the plan has no heat without a choice', () => {
  const plan = makePlan({ runs: 1 })
  const one = workloadSeconds(plan, {}, { arms: ARMS, candidates: 1 })
  assert.ok(one < workloadSeconds(plan, {}, { arms: ARMS, candidates: 2 }))
})

test('the plan has heats for several workloads once', () => {
  const plan = makePlan()
  const task = { workload: {}, kinds: [{}], roles: { tuned: 'x' }, heatWorkload: {} }
  const [once, apart] = [
    [task, task],
    [task, { ...task, heatWorkload: {} }]
  ].map((tasks) => secondsOfTasks(tasks, plan, CANDIDATES))
  assert.ok(once < apart)
})
