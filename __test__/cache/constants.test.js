'use strict'

const assert = require('node:assert/strict')
const { describe, test } = require('node:test')
const { BufferPool } = require('../..')
const { Fate, RemoteState, Tick } = require('../../lib/cache/states')
const counters = require('../../lib/cache/thread-counters')
const native = require('../../lib/runtime/native')

const constants = native.constants()

/** @param {string} name as Rust has it: `LastRow` becomes `LAST_ROW` */
const upperCase = (name) => name.replace(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase()

/** @param {Record<string, number>} numbers */
const named = (numbers) =>
  Object.fromEntries(Object.entries(numbers).map(([name, number]) => [upperCase(name), number]))

describe('the numbers that Rust and JavaScript share', () => {
  test('are the same in the counters', () => {
    const { blockState, column, segmentColumn, rowColumn } = constants
    const all = [blockState, column, segmentColumn, rowColumn].map(named)
    const names = all.flatMap((numbers) => Object.keys(numbers))
    assert.equal(new Set(names).size, names.length, 'no two have one name')
    const inRust = Object.assign({}, ...all)
    for (const [name, number] of Object.entries(counters)) {
      assert.equal(number, inRust[name], name)
    }
    // JavaScript has no use for the states that only the core sets.
    const missing = names.filter((name) => !(name in counters)).sort()
    assert.deepEqual(missing, ['DETACHED', 'FREEING', 'RELEASED_REMOTELY'])
  })

  test('are the same in the names of small numbers', () => {
    assert.deepEqual(named(constants.fate), { ...Fate })
    assert.deepEqual(named(constants.tick), { ...Tick })
    assert.deepEqual(named(constants.remoteState), { ...RemoteState })
  })

  test('are the same in the statistics', (t) => {
    const { classFigures, poolFigures } = constants
    const pool = new BufferPool()
    t.mock.method(native, 'stats', (_attachment, words) => {
      for (let i = 0; i < words.length; i++) words[i] = i
      return 2
    })
    const stats = pool.stats()
    const order = (from, names) => Object.fromEntries(names.map((name, i) => [name, from + i]))
    const { name, maxBytes, external, classes, ...figures } = stats
    assert.deepEqual(figures, order(0, [...classFigures, ...poolFigures]))
    const first = classFigures.length + poolFigures.length
    for (const [i, figures] of classes.entries()) {
      const from = first + i * (1 + classFigures.length)
      assert.deepEqual({ ...figures }, order(from, ['blockSize', ...classFigures]))
    }
  })
})
