'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { COUNT, MAX_SIZE, MIN_SIZE, proxySizes } = require('../experiments/proxy/sizes')

const KIB = 1024

test('the sizes of the proxy lie between 10 KiB and 3 MiB and use the whole range', () => {
  const sizes = proxySizes()
  assert.ok(sizes.every((size) => Number.isInteger(size) && size >= MIN_SIZE && size <= MAX_SIZE))
  assert.ok(Math.min(...sizes) < 1.01 * MIN_SIZE)
  assert.ok(Math.max(...sizes) > 0.9 * MAX_SIZE)
})

test('the mean size of the proxy is within 2 % of 100 KiB', () => {
  const mean = proxySizes().reduce((sum, size) => sum + size) / COUNT
  assert.ok(Math.abs(mean / KIB - 100) < 2, `${mean / KIB} KiB`)
})

test('every arm sees the same sizes in the same order', () => {
  assert.deepEqual(proxySizes(), proxySizes())
})

test('the sizes come in no order that a pool could profit from', () => {
  const sizes = proxySizes()
  const rising = sizes.filter((size, index) => index > 0 && size > sizes[index - 1]).length
  assert.ok(Math.abs(rising / COUNT - 0.5) < 0.05, `${rising} of ${COUNT} rise`)
})
