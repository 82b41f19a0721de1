'use strict'

const { BASELINE, CANDIDATE, LIMIT, TUNED, UNSAFE } = require('../arms')
const { describeInterval } = require('./interval')
const { medians } = require('./medians')
const { pairedRatios } = require('./ratio')
const { verdict } = require('./verdict')
const { warnings, SERVER_IDLE } = require('./warnings')

/**
 * Turns raw runs into what a reader wants to know. Pure: the raw experiment stays as it is.
 *
 * @param {object} raw experiment with the runs of its arms
 * @returns {object} the experiment in the shape of the JSON
 */
function analyse(raw) {
  const runsOf = (name) => raw.arms.find((arm) => arm.name === name)?.runs ?? []
  const arms = raw.arms.map((arm) => ({
    ...arm,
    median: medians(arm.runs),
    ratio: pairedRatios(arm.runs, runsOf(BASELINE))
  }))
  const candidate = runsOf(CANDIDATE)
  const starved = arms.some(
    ({ name, median }) =>
      [CANDIDATE, BASELINE].includes(name) && median.serverCpuShare < SERVER_IDLE
  )
  const roles = {
    starved,
    settings: arms.find((arm) => arm.name === TUNED)?.settings,
    toBaseline: pairedRatios(candidate, runsOf(BASELINE)),
    toTuned: pairedRatios(candidate, runsOf(TUNED)),
    toLimit: pairedRatios(candidate, runsOf(LIMIT)),
    tunedToBaseline: pairedRatios(runsOf(TUNED), runsOf(BASELINE)),
    unsafeToBaseline: pairedRatios(runsOf(UNSAFE), runsOf(BASELINE))
  }
  return { ...raw, arms, warnings: warnings({ ...raw, arms }), verdict: verdict(roles) }
}

module.exports = { analyse, describeInterval }
