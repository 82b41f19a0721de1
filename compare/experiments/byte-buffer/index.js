'use strict'

const { roles } = require('../../arms')
const { temporaryFolder } = require('../../runner/temporary-folder')
const arms = require('./arms')
const { growthTable, seedTable, wasteTable } = require('./evidence')
const { buildGo } = require('./go-build')
const { Work } = require('./work')

const KIB = 1024

/** The experiment examines how much memory is held; speed needs no long window. */
const SHORT = {
  usual: { rounds: 5, durationSeconds: 0.1, warmupSeconds: 0.05 },
  full: { rounds: 7, durationSeconds: 2, warmupSeconds: 0.5 }
}

/**
 * @param {object} own of the workload
 * @param {import('./work').Plan} own.work
 * @returns {import('../index').LoopWorkload}
 */
function workload({ work, ...own }) {
  return {
    ...own,
    work,
    unit: 'operation',
    throughput: 'bytes that were written',
    maxSize: work.bytes,
    setUp: ({ arm }) => new Work(arm, work),
    run: (state, count) => state.operate(count),
    figures: (state) => state.figures(),
    tearDown: (state) => state.close()
  }
}

const put = { together: 1, bytes: 30_000 }
const growth = { together: 64, bytes: 4 * KIB, largeBytes: KIB * KIB, largeEvery: 100 }
const waste = { together: 1000, bytes: 512 }

/** @type {import('../index').Experiment} */
module.exports = {
  name: 'byte-buffer',
  question: 'What does it cost to take a growing buffer from a pool, and not to put it back?',
  arms: arms.put,
  roles,
  workloads: [
    workload({
      variant: 'put',
      title: 'get, write 30,000 bytes, read the length, and put back or not',
      work: put,
      pace: {
        usual: { rounds: 5, durationSeconds: 0.15, warmupSeconds: 0.08 },
        full: { rounds: 9, durationSeconds: 4, warmupSeconds: 1 }
      },
      evidence: (entries) => [seedTable(entries.at(-1))]
    }),
    workload({
      variant: 'growth',
      title: '64 buffers at a time of 4 KiB, one in a hundred grows to 1 MiB',
      work: growth,
      arms: arms.growth,
      roles: { baseline: roles.baseline, candidate: roles.candidate, unsafe: roles.unsafe },
      pace: SHORT,
      evidence: (entries) => [growthTable(entries.at(-1), growth)]
    }),
    workload({
      variant: 'waste',
      title: '1,000 buffers at a time of 512 bytes, of blocks of 4 KiB or of their own size',
      work: waste,
      firstBytes: 4 * KIB,
      arms: arms.waste,
      roles: { baseline: roles.baseline, candidate: roles.candidate },
      pace: SHORT,
      evidence: (entries) => [wasteTable(entries.at(-1), waste)]
    })
  ],

  async prepare({ signal }) {
    const { folder, remove } = temporaryFolder()
    try {
      return { settings: await buildGo(folder, signal), close: remove }
    } catch (error) {
      remove()
      throw error
    }
  }
}
