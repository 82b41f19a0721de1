'use strict'

const { binomialDistribution } = require('simple-statistics')

/** The chance that the interval misses, on both sides together. */
const ALPHA = 0.05

/** With fewer values the interval's ends are the lowest and the highest. */
const FIRST_THAT_NARROWS = 7

/**
 * Returns the 95 % interval of a median's bootstrap distribution. For a median that distribution
 * has a closed form (Maritz and Jarrett, 1978), so nothing is drawn at random: the same runs always
 * give the same interval. It assumes no shape of the noise.
 *
 * @param {number[]} values at least one
 * @returns {{ low: number, high: number }}
 */
function intervalOfMedian(values) {
  const sorted = [...values].sort((one, other) => one - other)
  const cut = ranksOutside(sorted.length)
  return { low: sorted[cut], high: sorted[sorted.length - 1 - cut] }
}

/** Describes the interval for the report. @param {number} rounds */
function describeInterval(rounds) {
  const ends = rounds < FIRST_THAT_NARROWS ? ', which are the lowest and the highest' : ''
  return `95 % bootstrap interval of the median of the ratios paired by round${ends}`
}

/**
 * Returns how many of `count` sorted values lie outside of the interval on each side.
 *
 * Take a resample of n values, drawn with replacement. Its median is not above the value of rank k
 * if half of the draws have that rank or a lower one. For an even n the median is the lower of the
 * two middle draws.
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
 * Returns the chance that at least `successes` of `count` draws succeed, each with `chance`.
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
