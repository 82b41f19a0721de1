'use strict'

const { count, gigabytes, megabytes, short } = require('../format')

/**
 * The figures of the table, each a median over the rounds. The first that an experiment has is the
 * one by which its arms are ranked.
 */
const COLUMNS = [
  { metric: 'requestsPerSecond', heading: 'req/s', format: count, better: 'higher' },
  { metric: 'nsPerOperation', heading: 'ns/op', format: count, better: 'lower' },
  { metric: 'bytesPerSecond', heading: 'GB/s', format: gigabytes, better: 'higher' },
  { metric: 'latencyP99Ms', heading: 'p99 ms', format: short, better: 'lower' },
  { metric: 'rssPeakBytes', heading: 'peak RSS MB', format: megabytes, better: 'lower' },
  { metric: 'gcTimeMs', heading: 'GC ms', format: short, better: 'lower' },
  { metric: 'cpuMicrosPerRequest', heading: 'CPU µs/req', format: short, better: 'lower' },
  { metric: 'minorPageFaults', heading: 'faults', format: count, better: 'lower' }
]

/**
 * @param {object} experiment
 * @returns {typeof COLUMNS} without those for which no arm has a figure
 */
function columnsOf({ arms, unit }) {
  return COLUMNS.filter(({ metric }) => arms.some((arm) => arm.median[metric] !== undefined)).map(
    (column) => ({
      ...column,
      heading: unit === 'operation' ? column.heading.replace('/req', '/op') : column.heading
    })
  )
}

module.exports = { columnsOf }
