'use strict'

/** Formats figures for the tables. */

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 })

/** Bytes in a megabyte and in a gigabyte, as in the units' own names. */
const MEGA = 1e6
const GIGA = 1e9

/** @param {number} value */
function count(value) {
  return whole.format(value)
}

/** Keeps about three digits; more would be noise. @param {number} value */
function short(value) {
  const digits = value < 10 ? 2 : value < 100 ? 1 : 0
  return digits === 0 ? whole.format(value) : value.toFixed(digits)
}

/** @param {number} bytes */
function megabytes(bytes) {
  return count(bytes / MEGA)
}

/** @param {number} bytes */
function gigabytes(bytes) {
  return short(bytes / GIGA)
}

/** @param {{ value: number, low: number, high: number, rounds?: number }} ratio */
function ratio({ value, low, high, rounds }) {
  return rounds === 1 ? short(value) : `${short(value)} (${short(low)}–${short(high)})`
}

/** @param {number} seconds */
function duration(seconds) {
  const left = Math.max(0, Math.round(seconds))
  const minutes = Math.floor(left / 60)
  return minutes === 0 ? `${left} s` : `${minutes} min ${left % 60} s`
}

/** @param {number} share of a core */
function percent(share) {
  return `${Math.round(share * 100)} %`
}

/**
 * Describes how long a window lasts, to follow the word "rounds". Returns '' where that is not
 * known.
 *
 * @param {number | undefined} durationSeconds
 * @param {{ leastRequests?: number, unit?: string }} experiment
 */
function windowOf(durationSeconds, { leastRequests, unit = 'request' }) {
  if (!durationSeconds) return ''
  const longer = leastRequests ? `, or ${leastRequests} ${unit}s where these take longer` : ''
  return ` of ${durationSeconds} s${longer}`
}

module.exports = { count, duration, gigabytes, megabytes, percent, ratio, short, windowOf }
