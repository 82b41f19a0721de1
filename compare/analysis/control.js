'use strict'

const { CONTROL } = require('../arms/control')

/**
 * Returns how far two equal arms differ. An experiment that tells them apart proves nothing.
 *
 * @param {object[]} arms with their ratios to the baseline
 * @param {string} metric
 * @returns {{ name: string, ratio: import('./ratio').Ratio, holds: boolean } | undefined}
 */
function controlOf(arms, metric) {
  const arm = arms.find(({ role }) => role === CONTROL)
  const ratio = arm?.ratio[metric]
  // One round has no interval.
  if (ratio === undefined || ratio.rounds < 2) return undefined
  return { name: arm.name, ratio, holds: ratio.low <= 1 && ratio.high >= 1 }
}

module.exports = { controlOf }
