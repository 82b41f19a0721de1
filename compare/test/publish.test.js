'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { analyse } = require('../analysis')
const { page, readmeBlock } = require('../publish')
const fixture = require('./fixtures/measured-result')

test('the README gets a row for each table, with its figures and what they come to', () => {
  const result = fixture()
  result.experiments = result.experiments.map((experiment) => analyse(experiment))
  const rows = readmeBlock(result)
    .split('\n')
    .filter((line) => line.startsWith('| '))
  assert.equal(rows.length, 1 + result.experiments.length)
  const columns = (row) => row.split('|').length
  for (const [index, row] of rows.entries()) {
    assert.equal(columns(row), columns(rows[0]), row)
    assert.ok(index === 0 || row.includes(result.experiments[index - 1].title), row)
    assert.doesNotMatch(row, /undefined|NaN/)
  }
  assert.match(readmeBlock(result), /docs\/comparison\.png/)
})

test('the page has the whole report', () => {
  const text = page(fixture())
  for (const { verdict } of fixture().experiments) assert.ok(text.includes(verdict))
})
