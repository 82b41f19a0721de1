'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { before, test } = require('node:test')
const { METRICS } = require('../analysis/metrics')
const { findExperiment } = require('../experiments')
const { ensureClient } = require('../runner/client-build')
const { Comparison } = require('../runner/comparison')
const { makePlan } = require('../runner/plan')
const { checkResult } = require('../report/schema')
const { runCli, temporaryFolder } = require('./run-cli')

const ARMS = [
  'v8-alloc',
  'v8-allocUnsafe',
  'v8-tuned',
  'pool-gc',
  'pool-reuse',
  'pool-safe',
  'static'
]

/** As short as the command line allows for a window that surely holds requests. */
const SHORT = ['--runs', '1', '--duration', '0.2']

let client
before(async () => {
  client = await ensureClient({ signal: new AbortController().signal, onBuild() {} })
})

function assertRun(run, place) {
  for (const metric of METRICS) {
    assert.ok(Number.isFinite(run[metric]) && run[metric] >= 0, `${place}: ${metric}`)
  }
  assert.ok(run.requestsPerSecond > 0, place)
  assert.ok(run.latencyP50Ms <= run.latencyP99Ms, place)
  assert.ok(run.rssPeakBytes >= run.rssMeanBytes, place)
  assert.equal(run.errors, 0, place)
}

test('a short comparison runs every arm, prints its table and saves what it measured, and no place of the machine', async (context) => {
  const file = path.join(temporaryFolder(context), 'result.json')
  const { code, stdout, stderr, leftovers } = await runCli(['proxy', ...SHORT, '--json', file])
  assert.equal(code, 0, stderr)
  assert.ok(!leftovers, 'a process lives on')
  assert.match(
    stderr,
    /^1 workload, 7 arms, 1 round of 0\.2 s and heats for v8-tuned: about \d+ s\./m
  )
  assert.match(stdout, /Verdict: /)
  assert.deepEqual(fs.readdirSync(path.dirname(file)), ['result.json'])

  const text = fs.readFileSync(file, 'utf8')
  for (const place of [path.resolve(__dirname, '../..'), process.execPath, '/usr/lib']) {
    assert.ok(!text.includes(place), `a place of this machine is told: ${place}`)
  }

  const result = checkResult(JSON.parse(text))
  assert.equal(result.meta.node, process.version)
  assert.equal(result.meta.finished, true)
  assert.equal(result.experiments.length, 1)
  const [experiment] = result.experiments
  assert.equal(experiment.name, 'proxy')
  assert.equal(experiment.baseline, 'v8-allocUnsafe')
  assert.deepEqual(
    experiment.arms.map((arm) => arm.name),
    ARMS
  )
  for (const arm of experiment.arms) {
    assert.equal(arm.runs.length, 1)
    assertRun(arm.runs[0], arm.name)
  }
  assert.ok(experiment.tuned.some((heat) => heat.settings === 'the defaults'))

  const again = await runCli(['report', file])
  assert.equal(again.code, 0)
  assert.equal(again.stdout.trim(), stdout.trim())
})

test('Ctrl-C ends all processes, prints and saves what there is and exits with 130', async (context) => {
  const file = path.join(temporaryFolder(context), 'result.json')
  let sent = false
  const args = ['proxy', '--duration', '0.2', '--json', file]
  const { code, stdout, stderr, leftovers } = await runCli(args, (told, child) => {
    // In the middle of a round, and to the whole group, as a terminal does.
    if (sent || !/round 1 of 3: .* req\/s/.test(told)) return
    sent = true
    process.kill(-child.pid, 'SIGINT')
  })
  assert.equal(code, 130, stderr)
  assert.ok(!leftovers, 'a process lives on')
  assert.match(stderr, /Stopped early/)
  assert.match(stdout, /Verdict: /)
  const result = checkResult(JSON.parse(fs.readFileSync(file, 'utf8')))
  assert.equal(result.meta.finished, false)
  const { arms } = result.experiments[0]
  assert.ok(arms.some((arm) => arm.runs.length === 1))
  assert.ok(arms.every((arm) => arm.error === undefined))
})

test('an arm that fails is reported, not run again, and the others go on', async () => {
  const steps = []
  const broken = { name: 'no-such-arm', about: 'cannot start' }
  const sound = { name: 'v8-allocUnsafe', about: 'can' }
  const result = await new Comparison({
    arms: [broken, sound],
    plan: makePlan({ runs: 2, duration: 0.2 }),
    client,
    candidates: [],
    signal: new AbortController().signal,
    observer: {
      planned() {},
      changed() {},
      finished() {},
      step: ({ label }) => steps.push(label),
      stepped() {},
      skipped: () => steps.push('skipped')
    }
  }).run([findExperiment('proxy')])
  const [failed, other] = result.experiments[0].arms
  assert.match(failed.error.message, /^the server ended with exit code 1/)
  assert.match(failed.error.output, /There is no arm 'no-such-arm'/)
  assert.equal(other.runs.length, 2)
  assert.deepEqual([...steps].sort(), [
    'proxy, round 1 of 2: no-such-arm',
    'proxy, round 1 of 2: v8-allocUnsafe',
    'proxy, round 2 of 2: v8-allocUnsafe',
    'skipped'
  ])
  assert.match(result.experiments[0].warnings[0], /^no-such-arm failed: /)
})

test('every workload serves with V8, with the pool and with one static buffer', async () => {
  const arms = ['v8-allocUnsafe', 'pool-gc', 'pool-safe', 'pool-reuse', 'static']
  const silent = () => {}
  const result = await new Comparison({
    arms: arms.map((name) => ({ name, about: '' })),
    // The slowest workload answers some dozens of requests per second.
    plan: makePlan({ runs: 1, duration: 0.5 }),
    client,
    candidates: [],
    signal: new AbortController().signal,
    observer: {
      planned: silent,
      changed: silent,
      finished: silent,
      step: silent,
      stepped: silent,
      skipped: silent
    }
  }).run([findExperiment('http-buffers')])
  assert.deepEqual(
    result.experiments.map(({ name, variant }) => [name, variant]),
    [
      ['http-buffers', '1x1MiB'],
      ['http-buffers', '100x1MiB']
    ]
  )
  for (const { variant, arms } of result.experiments) {
    for (const arm of arms) {
      assert.equal(arm.error, undefined, JSON.stringify(arm.error))
      assertRun(arm.runs[0], `${variant} ${arm.name}`)
    }
  }
})
