'use strict'

const { isControl } = require('../../roles')

/** The fewest slower replies for a percentile to be drawn: with fewer it would be chance. */
const FEWEST_SLOWER = 5

const STEPS_PER_DECADE = 12
const DECADES = 5

/** One reply in this many was slower: 2 is the median, 100 the 99th percentile. */
const ONE_IN = [
  ...new Set([
    2,
    ...Array.from({ length: DECADES * STEPS_PER_DECADE + 1 }, (_, step) =>
      rounded(10 ** (step / STEPS_PER_DECADE))
    )
  ])
].sort((one, other) => one - other)

/**
 * Plots latency by percentile, over all rounds of an arm.
 *
 * @param {object} experiment
 */
function latency(experiment) {
  const lines = experiment.arms
    .filter((arm) => !isControl(arm, experiment))
    .map((arm) => ({ arm: arm.name, buckets: allRounds(arm.runs) }))
    .filter(({ buckets }) => buckets.length > 0)
    .map(({ arm, buckets }) => ({ arm, values: percentiles(buckets) }))
    .filter(({ values }) => values.some((value) => value !== null))
  if (lines.length === 0) return undefined
  const last = ONE_IN.findLastIndex((_, index) =>
    lines.some(({ values }) => values[index] !== null)
  )
  return {
    kind: 'latency',
    title: 'Latency by percentile',
    hint: 'Replies within so many milliseconds; all rounds together.',
    arms: lines.map(({ arm }) => arm),
    x: ONE_IN.slice(0, last + 1),
    views: [{ label: 'Latency', values: lines.map(({ values }) => values.slice(0, last + 1)) }]
  }
}

/** @returns {{ from: number, to: number, count: number }[]} in ascending order */
function allRounds(runs) {
  const buckets = new Map()
  for (const { latency } of runs) {
    const { edgesMs = [], counts = [] } = latency ?? {}
    edgesMs.forEach((to, index) => {
      if (!counts[index]) return
      const known = buckets.get(to)
      // If empty buckets were cut, the first bucket's lower edge is unknown; one step below
      // replaces it.
      const from = index > 0 ? edgesMs[index - 1] : to * (to / edgesMs[1] || 1)
      buckets.set(to, {
        from: Math.max(from, known?.from ?? 0),
        to,
        count: counts[index] + (known?.count ?? 0)
      })
    })
  }
  return [...buckets.values()].sort((one, other) => one.to - other.to)
}

function percentiles(buckets) {
  const total = buckets.reduce((sum, { count }) => sum + count, 0)
  return ONE_IN.map((oneIn) => {
    const slower = total / oneIn
    return slower < FEWEST_SLOWER ? null : rounded(within(buckets, total - slower))
  })
}

/**
 * Returns the time within which this many replies had come. It assumes an even distribution within
 * a bucket.
 */
function within(buckets, replies) {
  let before = 0
  for (const { from, to, count } of buckets) {
    if (before + count >= replies) return from + ((to - from) * (replies - before)) / count
    before += count
  }
  return buckets.at(-1).to
}

function rounded(value) {
  return Number(value.toPrecision(5))
}

module.exports = { latency }
