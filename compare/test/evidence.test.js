'use strict'

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { growthTable } = require('../experiments/file-serving/growth')
const { countCalls } = require('../experiments/http-buffers/inspect')
const { BEGIN, END } = require('../experiments/http-buffers/marks')

test('the calls between the marks are counted, each once', () => {
  const trace = [
    '10 mmap(NULL, 4096, PROT_READ) = 0x7f00',
    `10 access("${BEGIN}", F_OK) = -1 ENOENT`,
    '10 mmap(NULL, 1048576, PROT_READ <unfinished ...>',
    '11 madvise(0x7f, 4096, MADV_DONTNEED) = 0',
    '10 <... mmap resumed>) = 0x7f00',
    '10 access("/elsewhere", F_OK) = 0',
    '10 munmap(0x7f00, 1048576) = 0',
    `10 access("${END}", F_OK) = -1 ENOENT`,
    '10 munmap(0x7f00, 1048576) = 0'
  ]
  assert.equal(countCalls(trace.join('\n')), 3)
})

test('growth has a column per number of connections, and a gap where an arm did not run', () => {
  const entry = (connections, bytesPerSecond) => ({
    connections,
    arms: [
      { name: 'static', runs: [{ round: 1, bytesPerSecond, rssPeakBytes: 60e6 }] },
      { name: 'v8-stream', runs: [] }
    ]
  })
  const { columns, rows } = growthTable([entry(1, 2e9), entry(200, 3e9)])
  assert.deepEqual(columns, ['arm', 'MB/s, 1', 'MB/s, 200', 'peak RSS MB, 1', 'peak RSS MB, 200'])
  assert.deepEqual(rows, [
    ['static', 2000, 3000, 60, 60],
    ['v8-stream', '–', '–', '–', '–']
  ])
})
