'use strict'

const { count } = require('../format')

/** The rate that a heat shows, by the unit of the experiment. */
const RATES = { request: 'req/s', operation: 'op/s' }

/**
 * Returns the command line that applies the same settings.
 *
 * @param {{ env?: Record<string, string>, flags?: string[] }} heat
 */
function commandOf({ env = {}, flags = [] }) {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  return [...variables, 'node', ...flags].join(' ')
}

/**
 * Returns the result of a heat.
 *
 * @param {{ requestsPerSecond?: number, error?: string }} heat requests or operations
 * @param {'request' | 'operation'} [unit]
 */
function figureOf({ requestsPerSecond, error }, unit = 'request') {
  if (error) return 'failed'
  return requestsPerSecond === undefined ? '' : `${count(requestsPerSecond)} ${RATES[unit]}`
}

module.exports = { commandOf, figureOf }
