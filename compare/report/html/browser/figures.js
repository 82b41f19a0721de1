'use strict'

/** @param {number} value @returns {string} three digits, as the tables have them */
function short(value) {
  if (value >= 100) return Math.round(value).toLocaleString('en-US')
  return value.toFixed(value < 10 ? 2 : 1)
}

/**
 * Returns the ticks of a logarithmic axis: 1, 2 and 5 of each decade, or 1 alone if these are too
 * many.
 */
function logSteps(low, high) {
  const steps = []
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const factor of [1, 2, 5]) steps.push(Number((factor * 10 ** power).toPrecision(1)))
  }
  const within = steps.filter((step) => step >= low && step <= high)
  const decades = within.filter((step) => /^[0.]*1[0.]*$/.test(String(step)))
  return within.length > 8 ? decades : within
}

/** Formats a tick of a logarithmic axis. */
function plain(value) {
  return value >= 1000 ? value.toLocaleString('en-US') : String(value)
}

/** @param {number} oneIn one in this many replies is slower @returns {string} 99.9 for 1,000 */
function percentile(oneIn) {
  const digits = Math.max(0, Math.ceil(Math.log10(oneIn)) - 2) + (Number.isInteger(oneIn) ? 0 : 1)
  return (100 * (1 - 1 / oneIn)).toFixed(digits)
}

/** @param {number} rank @returns {string} 1st, 2nd, 3rd, 4th */
function ordinal(rank) {
  const ending = /1[123]$/.test(rank) ? 'th' : ({ 1: 'st', 2: 'nd', 3: 'rd' }[rank % 10] ?? 'th')
  return `${rank.toLocaleString('en-US')}${ending}`
}

module.exports = { short, plain, logSteps, percentile, ordinal }
