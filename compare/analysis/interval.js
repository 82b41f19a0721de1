'use strict'

const { binomialDistribution } = require('simple-statistics')

/** Chance that the true median lies outside of the interval, where there are rounds enough for it. */
const ALPHA = 0.05

/**
 * How far a median can be trusted, from the ranks of the values alone: no shape of the noise is
 * assumed. Too few values for that (below 6) give the lowest and the highest; more of them make the
 * interval narrower, and one disturbed round no longer widens it.
 *
 * @param {number[]} values at least one
 * @returns {{ low: number, high: number }}
 */
function intervalOfMedian(values) {
  const sorted = [...values].sort((one, other) => one - other)
  const cut = outsideRanks(sorted.length)
  return { low: sorted[cut], high: sorted[sorted.length - 1 - cut] }
}

/** In words, for the report. @param {number} rounds */
function describeInterval(rounds) {
  const kind = rounds < firstSure() ? 'lowest and highest' : '95 % interval, by rank,'
  return `${kind} of the ratios paired by round`
}

/**
 * How many values may be left out on each side: each lies above or below the true median with the
 * chance of a coin.
 */
function outsideRanks(count) {
  const chances = binomialDistribution(count, 0.5)
  let outside = 0
  let ranks = 0
  while (outside + chances[ranks] <= ALPHA / 2) outside += chances[ranks++]
  return Math.max(0, ranks - 1)
}

/** The fewest values whose lowest and highest make an interval of the wanted sureness. */
function firstSure() {
  return Math.ceil(1 - Math.log2(ALPHA))
}

module.exports = { intervalOfMedian, describeInterval }
