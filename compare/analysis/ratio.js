'use strict'

const { median } = require('simple-statistics')
const { intervalOfMedian } = require('./interval')
const { METRICS } = require('./metrics')

/**
 * @typedef {{ value: number, low: number, high: number, rounds: number }} Ratio
 */

/**
 * Returns the ratio of two arms for each metric. It pairs the runs of the same round, so a machine
 * that slows down for a round slows down both sides.
 *
 * @param {Record<string, number>[]} runs each with its `round`
 * @param {Record<string, number>[]} others
 * @returns {Record<string, Ratio>} omits metrics for which no round has a ratio; includes `speed`
 *   where the runs have one
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
