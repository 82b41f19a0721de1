'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { createColors } = require('picocolors')
const { drawResult } = require('../report')
const { coloursFor } = require('../report/colours')
const { duration, ratio, short } = require('../format')
const { checkResult } = require('../result/schema')
const fixture = require('./fixtures/result')
const smallest = require('./fixtures/smallest-result')

const plain = createColors(false)

/** Returns the cells of the row that starts with the name of the arm. */
function cells(text, name) {
  const row = text.split('\n').find((line) => line.startsWith(`│ ${name}`))
  return row
    .split('│')
    .slice(1, -1)
    .map((cell) => cell.trim())
}

test('the table has a row per arm, with medians and the ratio with its interval', () => {
  const text = drawResult(fixture(), plain)
  assert.deepEqual(cells(text, 'pool-safe'), [
    'pool-safe',
    '27,000',
    '–',
    '–',
    '112',
    '61.0',
    '–',
    '–',
    '5.30 (5.20–5.40)'
  ])
  assert.deepEqual(cells(text, 'v8-allocUnsafe').slice(0, 2), [
    'v8-allocUnsafe (baseline)',
    '5,000'
  ])
  assert.equal(cells(text, 'v8-allocUnsafe').at(-1), '1')
})

test('an arm that failed has a row without figures', () => {
  const [name, ...figures] = cells(drawResult(fixture(), plain), 'pool-gc')
  assert.equal(name, 'pool-gc (failed)')
  assert.ok(figures.every((figure) => figure === '–'))
})

test('the report shows the machine, the heats, the load, the warnings and the verdict', () => {
  const text = drawResult(fixture(), plain)
  for (const line of [
    'Measured on Node v24.0.0, V8 13.6, linux x64, 2 cores, A processor, 2026-01-02T03:04:05.000Z. Each process holds 8 MiB of other objects.',
    'http-buffers 1x1MiB: one Buffer of 1 MiB per request',
    'What does a web server gain?',
    'Load by cistern-load, 20 connections: the client used 25 % of a core, the server 102 %.',
    'Settings tried for v8-tuned, each with the lowest result of its short runs; the first won: LD_PRELOAD=libjemalloc.so.2 node --flag',
    '  9,250 req/s  --flag and jemalloc',
    '  5,000 req/s  the defaults',
    '       failed  --other',
    'Warning: Something to know.',
    'Verdict: Pooling pays here.'
  ]) {
    assert.ok(text.split('\n').includes(line), `'${line}' is missing in:\n${text}`)
  }
})

test('the best figure of a column is bold, and the limit is no contender', () => {
  const text = drawResult(fixture(), createColors(true))
  const bold = (figure) => createColors(true).bold(figure)
  assert.ok(text.includes(bold('27,000')))
  assert.ok(text.includes(bold('61.0')))
  assert.ok(!text.includes(bold('30,500')))
  assert.ok(!text.includes(bold('3.14')))
})

test('the control never has a bold figure, though it may be the fastest', () => {
  const result = fixture()
  const [{ arms }] = result.experiments
  const [baseline] = arms.filter(({ name }) => name === 'v8-allocUnsafe')
  arms.push({
    ...baseline,
    name: 'v8-allocUnsafe again',
    role: 'control',
    median: { requestsPerSecond: 99_000 }
  })
  const text = drawResult(result, createColors(true))
  assert.ok(text.includes('99,000'))
  assert.ok(!text.includes(createColors(true).bold('99,000')))
  assert.ok(text.includes(createColors(true).bold('27,000')))
})

test('a loop has times per operation and no latency, and its evidence follows', () => {
  const result = fixture()
  const [experiment] = result.experiments
  experiment.unit = 'operation'
  experiment.roles = { baseline: 'v8-allocUnsafe', candidate: 'pool-safe' }
  for (const { median, ratio } of experiment.arms) {
    median.nsPerOperation = 1234
    ratio.nsPerOperation = { value: 0.5, low: 0.4, high: 0.6, rounds: 3 }
  }
  experiment.evidence = [
    {
      title: 'What is held',
      columns: ['arm', 'held'],
      rows: [['pool-safe', 1e6]],
      note: 'At rest.'
    }
  ]
  const text = drawResult(checkResult(result), plain)
  assert.match(text, /│ arm +│ ns\/op │ GB\/s │ peak RSS MB │.*│ ns\/op × baseline │/)
  assert.deepEqual(cells(text, 'pool-safe').at(-1), '0.50 (0.40–0.60)')
  assert.match(
    text,
    /What is held\n.*\n│ arm +│ +held │\n.*\n│ pool-safe │ 1,000,000 │\n.*\nAt rest\./
  )
  assert.doesNotMatch(text, /\(limit\)/)
})

test('drawing does not change the result, and gives the same text again', () => {
  const result = fixture()
  const first = drawResult(result, plain)
  assert.deepEqual(result, fixture())
  assert.equal(drawResult(result, plain), first)
})

test('there is colour on a terminal only, and none where NO_COLOR is set', () => {
  assert.ok(coloursFor({ isTTY: true }, {}).isColorSupported)
  assert.ok(!coloursFor({ isTTY: true }, { NO_COLOR: '1' }).isColorSupported)
  assert.ok(!coloursFor({}, {}).isColorSupported)
})

test('the smallest result of the contract is drawn', () => {
  const text = drawResult(checkResult(smallest()), plain)
  assert.equal(cells(text, 'pool-safe').at(-1), '2.10 (2.00–2.20)')
})

test('an invalid result is rejected with its first fault', () => {
  const faults = [
    [null, 'it holds no object'],
    [[], 'it holds no object'],
    [{}, 'its schema is undefined, and this version reads 1'],
    [{ ...fixture(), schema: 2 }, 'its schema is 2, and this version reads 1'],
    [{ ...fixture(), meta: undefined }, 'it has no meta'],
    [{ ...fixture(), experiments: {} }, 'it has no experiments']
  ]
  const broken = fixture()
  broken.experiments[0].arms[1].ratio.requestsPerSecond.low = '2'
  faults.push([broken, 'experiments[0].arms[1] has a wrong ratio'])
  const unproven = fixture()
  unproven.experiments[0].evidence = [{ title: 'a table', columns: ['arm'], rows: [[undefined]] }]
  faults.push([unproven, 'experiments[0] has wrong evidence'])
  for (const [result, message] of faults) {
    assert.throws(() => checkResult(result), { message })
  }
})

test('figures keep about three digits', () => {
  assert.deepEqual([2.34567, 23.4567, 234.567, 2345.67, 0].map(short), [
    '2.35',
    '23.5',
    '235',
    '2,346',
    '0.00'
  ])
  assert.equal(ratio({ value: 2, low: 2, high: 2, rounds: 1 }), '2.00')
  assert.deepEqual([-1, 0, 59.6, 61].map(duration), ['0 s', '0 s', '1 min 0 s', '1 min 1 s'])
})
