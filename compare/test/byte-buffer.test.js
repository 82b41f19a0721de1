'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { findExperiment } = require('../experiments')
const kinds = require('../experiments/byte-buffer/arms')
const { buildGo } = require('../experiments/byte-buffer/go-build')
const { growthTable, seedTable, wasteTable } = require('../experiments/byte-buffer/evidence')
const { PlainBuffer } = require('../experiments/byte-buffer/plain-buffer')
const { Work } = require('../experiments/byte-buffer/work')
const { makePlan } = require('../runner/plan')
const { rawEntry, tasksOf } = require('../runner/task')
const { temporaryFolder } = require('./run-cli')

const never = new AbortController().signal

test('a plain buffer grows and retains its bytes', () => {
  const buffer = new PlainBuffer(Buffer.allocUnsafe, 4)
  for (const text of ['one', '', 'and a longer one']) buffer.append(Buffer.from(text))
  assert.equal(buffer.length, 19)
  buffer.reset()
  assert.equal(buffer.length, 0)
})

test('every arm of Node does the work, with small and with large buffers', async () => {
  const plan = { together: 3, bytes: 100, largeBytes: 5000, largeEvery: 4 }
  for (const kind of Object.values(kinds).flat()) {
    if (kind.program) continue
    const work = new Work(kind.open({ firstBytes: 4096 }), plan)
    assert.equal(work.operate(8), 6 * 100 + 2 * 5000, kind.name)
    const figures = await work.figures()
    for (const [name, value] of Object.entries(figures)) {
      assert.ok(Number.isFinite(value) && value >= 0, `${kind.name}: ${name} is ${value}`)
    }
    work.close()
  }
})

test('a list without a cap retains the buffers that grew', async () => {
  const [list] = kinds.growth.filter(({ name }) => name === 'free-list')
  const work = new Work(list.open({}), {
    together: 2,
    bytes: 10,
    largeBytes: 50_000,
    largeEvery: 3
  })
  work.operate(60)
  const { heldEmptyBytes } = await work.figures()
  assert.ok(heldEmptyBytes >= 2 * 50_000, `${heldEmptyBytes} bytes`)
})

test('without Go, or without its package, the report omits its arms and says why', async (context) => {
  const folder = temporaryFolder(context)
  const found = process.env.PATH
  context.after(() => {
    process.env.PATH = found
  })
  process.env.PATH = folder
  const settings = await buildGo(folder, never)
  assert.match(settings.goMissing, /^go is not installed/)

  const [task] = tasksOf(findExperiment('byte-buffer'), makePlan())
  const entry = rawEntry(task, settings)
  assert.deepEqual(
    entry.arms.filter(({ name }) => name.startsWith('go')),
    []
  )
  assert.match(entry.notes.join('\n'), /^go-put is left out: go is not installed \(.*\)\.$/m)

  fs.writeFileSync(
    path.join(folder, 'go'),
    '#!/bin/sh\necho "main.go:1: cannot find package" >&2\nexit 1\n',
    { mode: 0o755 }
  )
  if (process.platform !== 'win32') {
    assert.match((await buildGo(folder, never)).goMissing, /^bytebufferpool is not installed/)
  }
})

function arm(name, run) {
  return { name, runs: [{ round: 1, ...run }] }
}

test("the original experiment's figures stand beside ours, without arms that did not run", () => {
  const figures = {
    rssPeakBytes: 63e6,
    heldEmptyBytes: 34e3,
    freshBytesPerSecond: 13.6e9,
    serverCpuShare: 1.06
  }
  const { columns, rows } = seedTable({
    arms: [arm('pool-safe', figures), arm('pool-gc', figures)]
  })
  assert.deepEqual(columns.slice(3), ['pool-safe (put)', 'pool-gc (not put)'])
  assert.deepEqual(rows, [
    ['resident memory', '8 MB', '46 MB', '63 MB', '63 MB'],
    ['inuse_space', '512 KB', '512 KB', '34 KB', '34 KB'],
    ['alloc_space (ours: per second)', '512 KB', '49 GB, growing', '13.6 GB', '13.6 GB'],
    ['CPU', '100 %', '200 %', '106 %', '106 %']
  ])
})

test('the evidence compares the held bytes with the needed ones', () => {
  const entry = { arms: [arm('free-list', { heldEmptyBytes: 2e6, heldFullBytes: 4e6 })] }
  const work = { together: 1000, bytes: 500, largeBytes: 1024, largeEvery: 10 }
  assert.deepEqual(growthTable(entry, work).rows, [['free-list', '2.00', '4.00']])
  assert.deepEqual(wasteTable(entry, work).rows, [['free-list', '4.00', '8.00']])
})

test('an arm without runs has no figures', () => {
  const entry = { arms: [{ name: 'free-list', runs: [] }] }
  const work = { together: 1, bytes: 1, largeBytes: 1, largeEvery: 1 }
  assert.deepEqual(wasteTable(entry, work).rows, [['free-list', '–', '–']])
})
