'use strict'

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const path = require('node:path')
const { test } = require('node:test')

const HEAP = JSON.stringify(path.join(__dirname, '../recorder/heap'))
const MIB = 1024 * 1024

/** Returns by how many bytes the live heap of a fresh process grows. */
function grownBy(mebibytes) {
  const script = `
    const { fillHeap } = require(${HEAP})
    const live = () => { gc(); return process.memoryUsage().heapUsed }
    const before = live()
    fillHeap(${mebibytes})
    console.log(live() - before)`
  return Number(execFileSync(process.execPath, ['--expose-gc', '-e', script], { encoding: 'utf8' }))
}

test('the heap of a process grows by the requested size, and stays there', () => {
  for (const mebibytes of [8, 64]) {
    const share = grownBy(mebibytes) / (mebibytes * MIB)
    assert.ok(share > 0.85 && share < 1.15, `${share} of ${mebibytes} MiB`)
  }
})

test('the heap does not grow for a requested size of 0', () => {
  assert.ok(grownBy(0) < 0.1 * MIB)
})
