'use strict'

const { roles: common } = require('../arms')
const { unitOf } = require('./unit')

/**
 * Returns whether the candidate's ratio to the baseline is precise enough for the verdict. Its
 * interval must reach no further than `share` of the ratio to either side.
 *
 * @param {object} experiment with ratios
 * @param {number} share
 */
function isPrecise(experiment, share) {
  const { candidate } = experiment.roles ?? common
  const arm = experiment.arms.find(({ name }) => name === candidate)
  const ratio = arm?.ratio[unitOf(experiment).main]
  // More rounds would not give it a ratio.
  if (ratio === undefined) return true
  return Math.max(ratio.high - ratio.value, ratio.value - ratio.low) <= share * ratio.value
}

module.exports = { isPrecise }
