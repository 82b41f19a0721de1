'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { before, test } = require('node:test')
const { METRICS } = require('../analysis/metrics')
const { findExperiment } = require('../experiments')
const { ensurePrograms } = require('../runner/client-build')
const { Comparison } = require('../runner/comparison')
const { makePlan } = require('../runner/plan')
const { htmlReport } = require('../report/html')
const { checkResult } = require('../result/schema')
const { runCli, temporaryFolder } = require('./run-cli')

const ARMS = [
  'v8-alloc',
  'v8-allocUnsafe',
  'v8-tuned',
  'pool-gc',
  'pool-reuse',
  'pool-safe',
  'static',
  'v8-allocUnsafe again'
]

const readJson = (file) => JSON.parse(fs.readFileSync(file, 'utf8'))

/** The shortest window that is sure to hold requests. */
const SHORT = ['--runs', '1', '--duration', '0.2']

let programs
before(async () => {
  programs = await ensurePrograms({ signal: new AbortController().signal, onBuild() {} })
})

/** Ignores the progress. */
function observer(spoken = {}) {
  const names = ['planned', 'changed', 'finished', 'step', 'stepped', 'skipped']
  return { ...Object.fromEntries(names.map((name) => [name, () => {}])), ...spoken }
}

/** The metrics of a run of requests. */
const REQUEST_METRICS = METRICS.filter((metric) => metric !== 'nsPerOperation')

function assertRun(run, place) {
  for (const metric of REQUEST_METRICS) {
    // A server that is busy for long looks at its clock between two turns, which may hold no
    // request.
    if (metric.endsWith('PerRequest') && run[metric] === null) continue
    assert.ok(Number.isFinite(run[metric]) && run[metric] >= 0, `${place}: ${metric}`)
  }
  assert.ok(run.requestsPerSecond > 0, place)
  assert.ok(run.latencyP50Ms <= run.latencyP99Ms, place)
  assert.ok(run.rssPeakBytes >= run.rssMeanBytes, place)
  assert.equal(run.errors, 0, place)
}

test('a short comparison runs every arm, prints its table and saves its figures without a path of the machine', async (context) => {
  const file = path.join(temporaryFolder(context), 'result.json')
  const page = path.join(path.dirname(file), 'page.html')
  const args = ['proxy', ...SHORT, '--json', file, '--html', page]
  const { code, stdout, stderr, leftovers } = await runCli(args)
  assert.equal(code, 0, stderr)
  assert.ok(!leftovers, 'a process lives on')
  assert.match(
    stderr,
    /^1 workload, 8 runs of their arms, and heats for the tuned arms: about \d+ s\./m
  )
  assert.match(stdout, /Verdict: /)
  assert.deepEqual(fs.readdirSync(path.dirname(file)).sort(), ['page.html', 'result.json'])

  const text = fs.readFileSync(file, 'utf8')
  for (const place of [path.resolve(__dirname, '../..'), process.execPath, '/usr/lib']) {
    assert.ok(!text.includes(place), `a place of this machine is told: ${place}`)
  }

  const result = checkResult(JSON.parse(text))
  assert.equal(fs.readFileSync(page, 'utf8'), htmlReport(result))
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

const onGroups = { skip: process.platform === 'win32' && 'processes have no groups there' }

/**
 * Runs the command line with a folder of its own for temporary files, and presses Ctrl-C when what
 * it tells matches.
 */
async function interrupt(context, args, when) {
  const temporary = temporaryFolder(context)
  let sent = false
  const onProgress = (told, child) => {
    if (sent || !when.test(told)) return
    sent = true
    // Sends the signal to the whole group, as a terminal does.
    process.kill(-child.pid, 'SIGINT')
  }
  const ended = await runCli(args, onProgress, { TMPDIR: temporary })
  assert.equal(ended.code, 130, ended.stderr)
  assert.ok(!ended.leftovers, 'a process lives on')
  // With this variable Node caches compiled code there.
  const left = fs.readdirSync(temporary).filter((name) => name.startsWith('cistern'))
  assert.deepEqual(left, [], 'files are left behind')
  return ended
}

for (const experiment of ['file-serving', 'byte-buffer']) {
  test(
    `Ctrl-C in ${experiment} leaves neither a process nor a file behind`,
    onGroups,
    async (context) => {
      await interrupt(context, [experiment, '--duration', '0.2'], /heat for v8-tuned: .*: \d/)
    }
  )
}

test(
  'Ctrl-C while evidence is taken leaves neither a process nor a file behind',
  onGroups,
  async (context) => {
    const args = ['http-buffers', '--duration', '0.1', '--runs', '1']
    const lastRound = /(?:[^\n]*1x1MiB, round 1 of 1: [^\n]*\n){7}/
    await interrupt(context, args, lastRound)
  }
)

test(
  'Ctrl-C ends all processes, prints and saves what there is and exits with 130',
  onGroups,
  async (context) => {
    const file = path.join(temporaryFolder(context), 'result.json')
    const args = ['proxy', '--duration', '0.2', '--json', file]
    // In the middle of a round.
    const when = /round 1 of 5: .* req\/s/
    const { stdout, stderr } = await interrupt(context, args, when)
    assert.match(stderr, /Stopped early/)
    assert.match(stdout, /Verdict: /)
    const result = checkResult(JSON.parse(fs.readFileSync(file, 'utf8')))
    assert.equal(result.meta.finished, false)
    const { arms } = result.experiments[0]
    assert.ok(arms.some((arm) => arm.runs.length === 1))
    assert.ok(arms.every((arm) => arm.error === undefined))
  }
)

test('an arm that fails is reported and does not run again, but the others continue', async () => {
  const steps = []
  const broken = { name: 'no-such-arm', about: 'cannot start' }
  const sound = { name: 'v8-allocUnsafe', about: 'can' }
  const result = await new Comparison({
    plan: makePlan({ runs: 2, duration: 0.2 }),
    programs,
    candidates: [],
    signal: new AbortController().signal,
    observer: observer({
      step: ({ label }) => steps.push(label),
      skipped: () => steps.push('skipped')
    })
  }).run([{ ...findExperiment('proxy'), arms: [broken, sound] }])
  const [failed, other] = result.experiments[0].arms
  assert.match(failed.error.message, /^the server ended with exit code 1/)
  assert.match(failed.error.output, /There is no arm 'no-such-arm'/)
  assert.equal(other.runs.length, 2)
  assert.deepEqual([...steps].sort(), [
    'proxy, evidence',
    'proxy, round 1 of 2: no-such-arm',
    'proxy, round 1 of 2: v8-allocUnsafe',
    'proxy, round 1 of 2: v8-allocUnsafe again',
    'proxy, round 2 of 2: v8-allocUnsafe',
    'proxy, round 2 of 2: v8-allocUnsafe again',
    'skipped'
  ])
  assert.match(result.experiments[0].warnings[0], /^no-such-arm failed: /)
})

test('a failed preparation fails every arm, with the reason, and the next experiment runs', async () => {
  const broken = {
    ...findExperiment('proxy'),
    async prepare() {
      throw new Error('no room on the disk')
    }
  }
  const sound = findExperiment('http-buffers')
  const result = await new Comparison({
    plan: makePlan({ runs: 1, duration: 0.2 }),
    programs,
    candidates: [],
    signal: new AbortController().signal,
    observer: observer()
  }).run([
    broken,
    { ...sound, arms: sound.arms.slice(0, 1), workloads: sound.workloads.slice(0, 1) }
  ])
  const [failed, other] = result.experiments
  for (const { error } of failed.arms) assert.equal(error.message, 'no room on the disk')
  assert.equal(other.arms[0].runs.length, 1)
})

/** Runs an experiment with some of its arms and workloads, briefly. */
async function runBriefly(name, { arms = () => true, variants = () => true, duration }) {
  const experiment = findExperiment(name)
  const chosen = (kinds) => kinds?.filter((kind) => arms(kind.name))
  const workloads = experiment.workloads
    .filter(({ variant }) => variants(variant))
    .map((workload) => ({ ...workload, arms: chosen(workload.arms ?? experiment.arms) }))
  const result = await new Comparison({
    plan: makePlan({ runs: 1, duration }),
    programs,
    candidates: [],
    signal: new AbortController().signal,
    observer: observer()
  }).run([{ ...experiment, workloads }])
  for (const { arms } of checkResult(result).experiments) {
    for (const { name, error } of arms) assert.equal(error, undefined, `${name}: ${error?.message}`)
  }
  return result.experiments
}

test('http-buffers serves under every kind of arm, and shows whether memory is reused', async () => {
  const names = ['v8-allocUnsafe', 'pool-gc', 'pool-reuse', 'pool-safe', 'static']
  // The slowest workload answers some dozens of requests per second.
  const entries = await runBriefly('http-buffers', {
    arms: (name) => names.includes(name),
    duration: 1
  })
  assert.deepEqual(
    entries.map(({ variant }) => variant),
    ['1x1MiB', '100x1MiB']
  )
  for (const { variant, arms } of entries) {
    for (const arm of arms) assertRun(arm.runs[0], `${variant} ${arm.name}`)
  }
  const [{ rows, columns }] = entries[0].evidence
  assert.deepEqual(
    rows.map(([name]) => name),
    names
  )
  const addresses = Object.fromEntries(rows.map(([name, count]) => [name, count]))
  assert.equal(columns[1], 'addresses')
  if (process.platform === 'linux') {
    assert.equal(addresses.static, 1)
    assert.equal(addresses['pool-reuse'], 1)
    assert.ok(addresses['pool-gc'] > 1)
  }
})

test('file-serving serves files over as many connections as its workload has', async () => {
  const arms = ['v8-readFile', 'v8-stream', 'pool-readFile', 'pool-pump']
  const entries = await runBriefly('file-serving', {
    arms: (name) => arms.includes(name),
    variants: (variant) => ['8MiB-1', '64KiB-50'].includes(variant),
    duration: 0.4
  })
  assert.deepEqual(
    entries.map(({ connections, unit, baseline }) => [connections, unit, baseline]),
    [
      [1, 'request', 'v8-stream'],
      [50, 'request', 'v8-stream']
    ]
  )
  for (const { variant, arms } of entries) {
    for (const arm of arms) assertRun(arm.runs[0], `${variant} ${arm.name}`)
  }
})

test("a user's own workload runs under every arm, as a handler and as a loop", async (context) => {
  const folder = temporaryFolder(context)
  const loop = path.join(folder, 'mine.mjs')
  fs.writeFileSync(
    loop,
    `export const maxSize = 100_000
     export async function run({ take, give }) {
       const buffer = take(100_000)
       await buffer.fill(1)
       give(buffer)
     }`
  )
  const handler = path.join(__dirname, '../examples/workload.js')
  for (const [file, unit, metric, bytes] of [
    [loop, 'operation', 'nsPerOperation', 100_000],
    [handler, 'request', 'requestsPerSecond', 64 * 1024]
  ]) {
    const json = path.join(folder, `${unit}.json`)
    const { code, stdout, stderr } = await runCli(['--workload', file, ...SHORT, '--json', json])
    assert.equal(code, 0, stderr)
    assert.match(stdout, /Verdict: /)
    const [{ name, variant, arms, ...experiment }] = checkResult(readJson(json)).experiments
    assert.deepEqual([name, variant], ['workload', path.parse(file).name])
    assert.equal(experiment.unit, unit)
    assert.deepEqual(
      arms.map((arm) => arm.name),
      ARMS
    )
    for (const { name, runs } of arms) {
      assert.ok(runs[0][metric] > 0, name)
      // The static arm makes its buffer once.
      if (name !== 'static') assert.ok(runs[0].allocBytes >= bytes, name)
    }
  }
})

for (const [flaw, source, told] of [
  [
    'gives a Buffer back before it is sent',
    `serve({ take, give }, _request, response) {
       const buffer = take(65536).fill('x')
       response.end(buffer)
       give(buffer)
     }`,
    /gives a Buffer back before it is sent/
  ],
  [
    'sends a Buffer that it has given back',
    `serve({ take, give }, _request, response) {
       const buffer = take(65536).fill('x')
       give(buffer)
       response.end(buffer)
     }`,
    /gives a Buffer back before it is sent/
  ],
  [
    'writes to a Buffer that it has given back',
    `run({ take, give }) {
       const buffer = take(1000)
       give(buffer)
       setImmediate(() => buffer.fill(1))
     }`,
    /writes to a Buffer that it has given back/
  ],
  [
    'takes more than its maxSize',
    'run({ take, give }) { give(take(65537)) }',
    /takes 65537 bytes, and its maxSize is 65536/
  ],
  [
    'gives a Buffer back twice',
    `serve({ take, give }, _request, response) {
       const buffer = take(10)
       for (const event of ['finish', 'close']) response.once(event, () => give(buffer))
       response.end(buffer)
     }`,
    /gives back a Buffer twice/
  ],
  [
    'gives back what it did not take',
    'run({ give }) { give(Buffer.alloc(10)) }',
    /gives back a Buffer that it did not take/
  ],
  ['throws', "run() { throw new Error('on purpose') }", /throws Error: on purpose\n/],
  [
    'answers with another status',
    'serve(_memory, _request, response) { response.writeHead(404).end() }',
    /answers with status 404/
  ]
]) {
  test(`a workload that ${flaw} is rejected before any measurement`, async (context) => {
    const folder = temporaryFolder(context)
    const file = path.join(folder, 'flawed.js')
    fs.writeFileSync(file, `module.exports = { maxSize: 65536, ${source} }`)
    const json = path.join(folder, 'out.json')
    const { code, stdout, stderr } = await runCli(['--workload', file, ...SHORT, '--json', json])
    assert.equal(code, 1, stderr)
    assert.match(stderr, told)
    assert.match(stderr, /The workload 'flawed' .* \(arm v8-allocUnsafe\)/s)
    assert.equal(stdout, '')
  })
}

test('a workload that holds its Buffers gets a note, and is measured', async (context) => {
  const file = path.join(temporaryFolder(context), 'holding.js')
  fs.writeFileSync(
    file,
    'module.exports = { maxSize: 1000, run: ({ take }) => take(1000).fill(1) }'
  )
  const { code, stderr } = await runCli(['--workload', file, ...SHORT])
  assert.equal(code, 0, stderr)
  assert.match(stderr, /'holding' did not give back 32 of the 32 Buffers that it took in its trial/)
})

test('byte-buffer runs in a loop, and reports nanoseconds per operation', async () => {
  const entries = await runBriefly('byte-buffer', { duration: 0.1 })
  for (const { variant, arms, unit, evidence, connections, warnings } of entries) {
    assert.equal(unit, 'operation')
    assert.equal(connections, undefined)
    assert.equal(evidence.length, 1)
    for (const { name, runs } of arms) {
      assert.ok(runs[0].nsPerOperation > 0, `${variant} ${name}`)
      assert.ok(runs[0].heldFullBytes >= 0, `${variant} ${name}`)
      assert.equal(runs[0].requestsPerSecond, undefined)
    }
    const hasGo = arms.some(({ name }) => name === 'go-put')
    assert.ok(hasGo || warnings.some((warning) => warning.startsWith('go-put is left out')))
  }
})

test('proxy shows its memory beside that of a proxy without a garbage collector', async () => {
  const [{ evidence, arms }] = await runBriefly('proxy', {
    arms: (name) => ['v8-allocUnsafe', 'pool-safe'].includes(name),
    duration: 0.3
  })
  for (const arm of arms) assert.ok(arm.runs[0].inFlightPeakBytes > 0)
  assert.deepEqual(
    evidence[0].rows.map(([name]) => name),
    ['v8-allocUnsafe', 'pool-safe', 'a proxy in Rust']
  )
})
