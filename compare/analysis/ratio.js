'use strict'

const { median } = require('simple-statistics')
const { intervalOfMedian } = require('./interval')
const { METRICS } = require('./metrics')

/**
 * @typedef {{ value: number, low: number, high: number, rounds: number }} Ratio
 */

/**
 * The ratio of two arms, metric by metric. Runs of the same round are compared with each other, so
 * that a machine which slows down for a round slows down both sides.
 *
 * @param {Record<string, number>[]} runs each with its `round`
 * @param {Record<string, number>[]} others
 * @returns {Record<string, Ratio>} without the metrics for which no round has a ratio; of `speed`, too,
 *   where the runs have it
 */
function pairedRatios(runs, others) {
  const entries = [...METRICS, 'speed'].map((metric) => [metric, pairedRatio(runs, others, metric)])
  return Object.fromEntries(entries.filter(([, ratio]) => ratio !== undefined))
}

function pairedRatio(runs, others, metric) {
  const ratios = runs
    .map((run) => run[metric] / others.find((other) => other.round === run.round)?.[metric])
    .filter(Number.isFinite)
  if (ratios.length === 0) return undefined
  return { value: median(ratios), ...intervalOfMedian(ratios), rounds: ratios.length }
}

module.exports = { pairedRatios }
