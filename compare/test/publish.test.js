'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { analyse } = require('../analysis')
const { experiments } = require('../experiments')
const { page, performanceBlock, readmeBlock } = require('../publish')
const fixture = require('./fixtures/measured-result')

test('the performance page gets one row of each experiment, with its figures and its outcome', () => {
  const result = fixture()
  result.experiments = result.experiments.map((experiment) => analyse(experiment))
  const firsts = new Map(result.experiments.toReversed().map((one) => [one.name, one.title]))
  const rows = rowsOf(result)
  const columns = (row) => row.split('|').length
  for (const row of rows) {
    assert.equal(columns(row), columns(rows[0]), row)
    assert.doesNotMatch(row, /undefined|NaN/)
  }
  for (const title of firsts.values()) {
    assert.equal(rows.filter((row) => row.includes(title)).length, 1, title)
  }
  assert.match(readmeBlock(result), /docs\/comparison\.png/)
})

test('the performance page has every row that speaks against the pool', () => {
  const result = fixture()
  const [first] = result.experiments.map((experiment) => analyse(experiment))
  const later = (outcome, title) => ({ ...first, outcome, title })
  result.experiments = [
    first,
    later('costs', 'it costs'),
    later('beaten', 'it is beaten'),
    later('pays', 'it pays')
  ]
  const text = rowsOf(result).join('\n')
  assert.match(text, /it costs.*\*\*costs\*\*/)
  assert.match(text, /it is beaten/)
  assert.doesNotMatch(text, /it pays/)
})

test('a row has the figure of the pool in bold only if no V8 is faster', () => {
  const [first] = fixture().experiments.map((experiment) => analyse(experiment))
  const figureOf = (figures) => {
    const arms = first.arms.map((arm) => ({
      ...arm,
      median: { ...arm.median, requestsPerSecond: figures[arm.name] ?? 1 }
    }))
    const [, row] = rowsOf({ ...fixture(), experiments: [{ ...first, arms }] })
    return row.split(' | ')[3]
  }
  assert.equal(figureOf({ 'pool-safe': 30, 'v8-allocUnsafe': 10, 'v8-tuned': 20 }), '**30/s**')
  assert.equal(figureOf({ 'pool-safe': 15, 'v8-allocUnsafe': 10, 'v8-tuned': 20 }), '15/s')
})

test('the row of an experiment is its headline, if that ran', () => {
  const [first] = fixture().experiments.map((experiment) => analyse(experiment))
  const serving = (variant) => ({ ...first, name: 'file-serving', variant, title: `of ${variant}` })
  const all = ['8MiB-1', '8MiB-50', '64KiB-50'].map(serving)
  const told = (experiments) =>
    rowsOf({ ...fixture(), experiments })
      .join('\n')
      .match(/of [-\w]+ \|/g)
  assert.deepEqual(told(all), ['of 8MiB-50 |'])
  assert.deepEqual(told(all.slice(0, 1)), ['of 8MiB-1 |'])
})

test('each headline is one of its experiment, and runs without --full', () => {
  for (const { name, headline, workloads } of experiments) {
    if (headline === undefined) continue
    const found = workloads.find(({ variant }) => variant === headline)
    assert.equal(found?.fullOnly, false, name)
  }
})

test('the performance page mentions rows where pooling costs only if it has one', () => {
  const [first] = fixture().experiments.map((experiment) => analyse(experiment))
  const textOf = (outcome) =>
    performanceBlock({ ...fixture(), experiments: [{ ...first, outcome }] })
  assert.match(textOf('costs'), /and each where pooling costs/)
  assert.doesNotMatch(textOf('pays'), /where pooling costs/)
})

function rowsOf(result) {
  return performanceBlock(result)
    .split('\n')
    .filter((line) => line.startsWith('| '))
}

test('the page has the whole report', () => {
  const text = page(fixture())
  for (const { verdict } of fixture().experiments) assert.ok(text.includes(verdict))
})
