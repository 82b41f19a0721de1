'use strict'

const { median } = require('simple-statistics')
const { METRICS } = require('./metrics')

/**
 * Returns the median over the runs for each metric. It omits metrics that no run has.
 *
 * @param {Record<string, number>[]} runs
 * @returns {Record<string, number>}
 */
function medians(runs) {
  const entries = METRICS.map((metric) => [
    metric,
    runs.map((run) => run[metric]).filter(Number.isFinite)
  ])
  return Object.fromEntries(
    entries
      .filter(([, values]) => values.length > 0)
      .map(([metric, values]) => [metric, median(values)])
  )
}

module.exports = { medians }
