'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { analyse } = require('../analysis')
const { page, readmeBlock } = require('../publish')
const fixture = require('./fixtures/measured-result')

test('the README gets the first row of each experiment, with its figures and what they come to', () => {
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

test('no row that speaks against the pool is left out of the README', () => {
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

function rowsOf(result) {
  return readmeBlock(result)
    .split('\n')
    .filter((line) => line.startsWith('| '))
}

test('the page has the whole report', () => {
  const text = page(fixture())
  for (const { verdict } of fixture().experiments) assert.ok(text.includes(verdict))
})
