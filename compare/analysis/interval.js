'use strict'

const { binomialDistribution } = require('simple-statistics')

/** Chance that the interval misses, both sides together. */
const ALPHA = 0.05

/** Fewer values give the same ends as the lowest and the highest do. */
const FIRST_THAT_NARROWS = 7

/**
 * How far a median can be trusted: the 95 % interval of its bootstrap distribution, which for a median
 * can be written down (Maritz and Jarrett, 1978) instead of drawn at random. No shape of the noise is
 * assumed, and the same runs always give the same interval.
 *
 * @param {number[]} values at least one
 * @returns {{ low: number, high: number }}
 */
function intervalOfMedian(values) {
  const sorted = [...values].sort((one, other) => one - other)
  const cut = ranksOutside(sorted.length)
  return { low: sorted[cut], high: sorted[sorted.length - 1 - cut] }
}

/** In words, for the report. @param {number} rounds */
function describeInterval(rounds) {
  const ends = rounds < FIRST_THAT_NARROWS ? ', which are the lowest and the highest' : ''
  return `95 % bootstrap interval of the median of the ratios paired by round${ends}`
}

/**
 * How many of so many values lie outside of the interval on each side. Of a resample of n values, drawn
 * with replacement, the median (of an even number of draws the lower of the two in the middle) is not above
 * the value of rank k if half of the draws are of that rank or a lower one.
 *
 * @param {number} count
 */
function ranksOutside(count) {
  const half = Math.ceil(count / 2)
  let rank = 0
  while (rank < half - 1 && chanceOf(half, count, (rank + 1) / count) <= ALPHA / 2) rank++
  return rank
}

/**
 * The chance that of `count` draws, each of which succeeds with `chance`, so many succeed or more.
 *
 * @param {number} successes
 * @param {number} count
 * @param {number} chance below 1
 */
function chanceOf(successes, count, chance) {
  return binomialDistribution(count, chance)
    .slice(successes)
    .reduce((sum, one) => sum + one, 0)
}

module.exports = { intervalOfMedian, describeInterval }
