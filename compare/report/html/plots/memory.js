'use strict'

const { medianRun } = require('../measure')
const { isControl } = require('../../roles')

/** The most points of a line; a screen has not many more. */
const MOST_POINTS = 400

const VIEWS = [
  { field: 'rssBytes', label: 'Resident' },
  { field: 'externalBytes', label: 'External' },
  { field: 'heapBytes', label: 'Heap' },
  { field: 'poolBytes', label: 'Pool' }
]

/**
 * Plots memory over time, from the median run of each arm. The arms have different sample times.
 * The plot gives all of them the same times, so that one cursor position shows all arms.
 *
 * @param {object} experiment
 */
function memory(experiment) {
  const lines = experiment.arms
    .filter((arm) => !isControl(arm, experiment))
    .map((arm) => ({ arm: arm.name, series: medianRun(arm, experiment, isSampled)?.series }))
    .filter(({ series }) => series)
  if (lines.length === 0) return undefined
  const x = commonTimes(lines.map(({ series }) => series.atMs))
  const step = x[1]
  return {
    kind: 'memory',
    title: 'Memory over time',
    hint: 'Megabytes of the process during the measured window; one run of each arm.',
    arms: lines.map(({ arm }) => arm),
    x: x.map((ms) => rounded(ms / 1e3, 4)),
    views: VIEWS.filter(({ field }) => lines.some(({ series }) => isWhole(series, field))).map(
      ({ field, label }) => ({
        label,
        values: lines.map(({ series }) => x.map((ms) => megabytesAt(series, field, ms, step)))
      })
    )
  }
}

function isSampled({ series }) {
  return series?.atMs?.length > 1 && isWhole(series, 'rssBytes')
}

function isWhole(series, field) {
  return series[field]?.length === series.atMs.length
}

function commonTimes(times) {
  const end = Math.max(...times.map((atMs) => atMs.at(-1)))
  const points = Math.min(MOST_POINTS, Math.max(...times.map((atMs) => atMs.length)))
  return Array.from({ length: points }, (_, index) => (end * index) / (points - 1))
}

/**
 * Interpolates between two samples. Up to one step before the first and after the last sample it
 * returns that sample; beyond that there is no value.
 */
function megabytesAt(series, field, ms, step) {
  const { atMs } = series
  if (!isWhole(series, field)) return null
  const after = atMs.findIndex((at) => at >= ms)
  if (after === 0) return atMs[0] - ms < step ? megabytes(series[field][0]) : null
  if (after < 0) return ms - atMs.at(-1) < step ? megabytes(series[field].at(-1)) : null
  const share = (ms - atMs[after - 1]) / (atMs[after] - atMs[after - 1])
  return megabytes(series[field][after - 1] * (1 - share) + series[field][after] * share)
}

function megabytes(bytes) {
  return rounded(bytes / 1e6, 2)
}

function rounded(value, digits) {
  return Number(value.toFixed(digits))
}

module.exports = { memory }
