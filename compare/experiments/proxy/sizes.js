'use strict'

const { random, shuffled } = require('../../random')

/** The range of the proxy that the experiment models, in bytes. */
const MIN_SIZE = 10 * 1024
const MAX_SIZE = 3 * 1024 * 1024

/**
 * Shape of the bounded Pareto distribution, the usual model for the sizes of web objects: many
 * small, few large. Solved for a mean of 100 KiB between {@link MIN_SIZE} and {@link MAX_SIZE}; the
 * median is then 25 KiB and one in a hundred is above 1.5 MiB.
 */
const SHAPE = 0.736

/** The length of the sequence, a power of two, so that the index wraps by a mask. */
const COUNT = 4096

const SEED = 4

/** Returns the size below which a share `quantile` of all sizes lies. */
function sizeAt(quantile) {
  const tail = 1 - quantile * (1 - (MIN_SIZE / MAX_SIZE) ** SHAPE)
  return Math.round(MIN_SIZE * tail ** (-1 / SHAPE))
}

/**
 * Returns the sizes that a proxy's requests ask for. Every quantile of the distribution appears
 * once, in a seeded order. So all arms see the same sizes, and the mean is exact.
 *
 * @returns {number[]} {@link COUNT} sizes in bytes
 */
function proxySizes() {
  const ordered = Array.from({ length: COUNT }, (_, index) => sizeAt((index + 0.5) / COUNT))
  return shuffled(ordered, random(SEED))
}

module.exports = { proxySizes, MIN_SIZE, MAX_SIZE, COUNT }
