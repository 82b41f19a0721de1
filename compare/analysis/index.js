'use strict'

const { roles: common } = require('../arms')
const { controlOf } = require('./control')
const { describeInterval } = require('./interval')
const { medians } = require('./medians')
const { pairedRatios } = require('./ratio')
const { outcomeOf, verdict } = require('./verdict')
const { warnings, SERVER_IDLE } = require('./warnings')
const { unitOf } = require('./unit')

/**
 * Adds medians, ratios, warnings and a verdict to the raw runs. Pure: it does not change the raw
 * experiment.
 *
 * @param {object} raw experiment with the runs of its arms
 * @returns {object} the experiment in the shape of the JSON
 */
function analyse(raw) {
  const { notes = [], ...told } = raw
  const unit = unitOf(raw)
  const roles = { ...(raw.roles ?? common), baseline: raw.baseline }
  const runsOf = (name) => raw.arms.find((arm) => arm.name === name)?.runs ?? []
  const arms = raw.arms.map((arm) => ({
    ...arm,
    median: medians(arm.runs),
    ratio: pairedRatios(arm.runs, runsOf(roles.baseline))
  }))
  const speedOf = (runs, others) =>
    pairedRatios(runs.map(unit.withSpeed), others.map(unit.withSpeed))
  const ratio = (role, other) => speedOf(runsOf(roles[role]), runsOf(roles[other]))
  const starved =
    !raw.waits &&
    arms.some(
      ({ name, median }) =>
        [roles.candidate, roles.baseline].includes(name) && median.serverCpuShare < SERVER_IDLE
    )
  const control = controlOf(arms, unit.main)
  const analysed = { ...told, roles, arms, ...(control && { control }), ratios: ratiosOf(arms) }
  const compared = {
    unit,
    candidate: roles.candidate,
    baseline: roles.baseline,
    starved,
    control,
    noise: speedOf(runsOf(control?.name), runsOf(roles.baseline)).speed,
    settings: arms.find((arm) => arm.name === roles.tuned)?.settings,
    toBaseline: ratio('candidate', 'baseline'),
    toTuned: ratio('candidate', 'tuned'),
    toLimit: ratio('candidate', 'limit'),
    tunedToBaseline: ratio('tuned', 'baseline'),
    unsafeToBaseline: ratio('unsafe', 'baseline')
  }
  return {
    ...analysed,
    warnings: [...notes, ...warnings(analysed)],
    outcome: outcomeOf(compared),
    verdict: verdict(compared)
  }

  /** Returns the ratios of each arm's main figure to the tuned arm's and to the limit's. */
  function ratiosOf(arms) {
    const to = (other) =>
      Object.fromEntries(
        arms
          .map(({ name, runs }) => [name, pairedRatios(runs, runsOf(other))[unit.main]])
          .filter(([, ratio]) => ratio !== undefined)
      )
    return { toTuned: to(roles.tuned), toLimit: to(roles.limit) }
  }
}

module.exports = { analyse, describeInterval }
