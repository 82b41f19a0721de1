'use strict'

const { pairedRatios } = require('../../analysis/ratio')
const { rolesOf } = require('../roles')

const REQUESTS = {
  metric: 'requestsPerSecond',
  unit: 'req/s',
  words: 'the requests per second',
  better: 'higher'
}

const OPERATIONS = {
  metric: 'nsPerOperation',
  unit: 'ns/op',
  words: 'the time per operation',
  better: 'lower'
}

/**
 * Returns the measure that ranks the arms of an experiment.
 *
 * @param {object} experiment
 */
function measureOf({ unit, arms }) {
  if (unit) return unit === 'operation' ? OPERATIONS : REQUESTS
  const has = ({ metric }) => arms.some((arm) => arm.median[metric] !== undefined)
  return !has(REQUESTS) && has(OPERATIONS) ? OPERATIONS : REQUESTS
}

/**
 * @param {object} experiment
 * @param {object} arm one of its arms
 * @param {'baseline' | 'tuned' | 'limit'} role the other arm's
 * @returns {import('../../analysis/ratio').Ratio | undefined} as recorded, or from the runs
 */
function ratioTo(experiment, arm, role) {
  const { metric } = measureOf(experiment)
  if (role === 'baseline') return arm.ratio[metric]
  const recorded = experiment.ratios?.[role === 'tuned' ? 'toTuned' : 'toLimit']
  if (recorded) return recorded[arm.name]
  const name = rolesOf(experiment)[role]
  const other = experiment.arms.find((one) => one.name === name)
  return pairedRatios(arm.runs, other?.runs ?? [])[metric]
}

/** Returns the same ratio, inverted if necessary, so that above 1 is better. */
function gainOf(experiment, arm, role) {
  const ratio = ratioTo(experiment, arm, role)
  if (!ratio || measureOf(experiment).better === 'higher') return ratio
  const { value, low, high } = ratio
  return { ...ratio, value: 1 / value, low: 1 / high, high: 1 / low }
}

/**
 * @param {object} arm
 * @param {object} experiment
 * @param {(run: object) => boolean} fits
 * @returns {object | undefined} of the runs that fit, the one in the middle
 */
function medianRun(arm, experiment, fits) {
  const { metric } = measureOf(experiment)
  const runs = arm.runs.filter(fits).sort((one, other) => one[metric] - other[metric])
  return runs[Math.floor((runs.length - 1) / 2)]
}

module.exports = { gainOf, measureOf, ratioTo, medianRun }
