'use strict'

const { count, gigabytes, megabytes, short } = require('./format')

/**
 * The figures of the table, each a median over the rounds.
 *
 * @type {readonly { metric: string, heading: string, format: (value: number) => string,
 *   better: 'higher' | 'lower' }[]}
 */
const columns = [
  { metric: 'requestsPerSecond', heading: 'req/s', format: count, better: 'higher' },
  { metric: 'bytesPerSecond', heading: 'GB/s', format: gigabytes, better: 'higher' },
  { metric: 'latencyP99Ms', heading: 'p99 ms', format: short, better: 'lower' },
  { metric: 'rssPeakBytes', heading: 'peak RSS MB', format: megabytes, better: 'lower' },
  { metric: 'gcTimeMs', heading: 'GC ms', format: short, better: 'lower' },
  { metric: 'cpuMicrosPerRequest', heading: 'CPU µs/req', format: short, better: 'lower' },
  { metric: 'minorPageFaults', heading: 'faults', format: count, better: 'lower' }
]

module.exports = { columns }
