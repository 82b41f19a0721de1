'use strict'

const { roles: common } = require('../arms')
const { unitOf } = require('./unit')

/**
 * Whether what the verdict is about is known well enough: the candidate's ratio to the baseline, whose
 * interval reaches no further than that share of it to either side.
 *
 * @param {object} experiment with ratios
 * @param {number} share
 */
function isPrecise(experiment, share) {
  const { candidate } = experiment.roles ?? common
  const arm = experiment.arms.find(({ name }) => name === candidate)
  const ratio = arm?.ratio[unitOf(experiment).main]
  // Without one, more rounds would not bring it.
  if (ratio === undefined) return true
  return Math.max(ratio.high - ratio.value, ratio.value - ratio.low) <= share * ratio.value
}

module.exports = { isPrecise }
