'use strict'

const { count, gigabytes, megabytes, short } = require('../format')

/**
 * The columns of the table. Each figure is a median over the rounds.
 *
 * @type {readonly { metric: string, heading: string, format: (value: number) => string, better:
 *   'higher' | 'lower', unit?: 'request' | 'operation' }[]} `unit`: the column appears only for
 *   that unit
 */
const columns = [
  {
    metric: 'requestsPerSecond',
    heading: 'req/s',
    format: count,
    better: 'higher',
    unit: 'request'
  },
  { metric: 'nsPerOperation', heading: 'ns/op', format: count, better: 'lower', unit: 'operation' },
  { metric: 'bytesPerSecond', heading: 'GB/s', format: gigabytes, better: 'higher' },
  { metric: 'latencyP99Ms', heading: 'p99 ms', format: short, better: 'lower', unit: 'request' },
  { metric: 'rssPeakBytes', heading: 'peak RSS MB', format: megabytes, better: 'lower' },
  { metric: 'gcTimeMs', heading: 'GC ms', format: short, better: 'lower' },
  {
    metric: 'cpuMicrosPerRequest',
    heading: 'CPU µs/req',
    format: short,
    better: 'lower',
    unit: 'request'
  },
  {
    metric: 'cpuMicrosPerRequest',
    heading: 'CPU µs/op',
    format: short,
    better: 'lower',
    unit: 'operation'
  },
  { metric: 'minorPageFaults', heading: 'faults', format: count, better: 'lower' }
]

/**
 * @param {'request' | 'operation'} [unit]
 */
function columnsFor(unit = 'request') {
  return columns.filter((column) => column.unit === undefined || column.unit === unit)
}

module.exports = { columnsFor }
