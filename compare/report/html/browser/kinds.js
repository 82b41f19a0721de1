'use strict'

const { logSteps, ordinal, percentile, plain } = require('./figures')

/** uPlot's name for a logarithmic scale. */
const LOGARITHMIC = 3

/** Room above and below the lines on a logarithmic scale. */
const ROOM = 1.25

/** Percentiles that are written under the axis, as one in N. */
const PERCENTILES = [1, 2, 10, 100, 1000, 10_000, 100_000]

const logMilliseconds = {
  scale: { distr: LOGARITHMIC, range: (_, low, high) => padded(low, high) },
  axis: { splits: ({ scales: { y } }) => logSteps(y.min, y.max), label: 'ms', tick: plain },
  unit: 'ms'
}

/** The kinds of plots: their scales, their ticks, and the text for a position of the cursor. */
const kinds = {
  memory: {
    x: { scale: { time: false }, axis: { label: 'seconds' } },
    y: {
      scale: { range: (_, __, high) => [0, high * 1.08 || 1] },
      axis: { label: 'MB' },
      unit: 'MB'
    },
    place: (x) => `at ${x.toFixed(2)} s`
  },
  latency: {
    x: {
      scale: { time: false, distr: LOGARITHMIC, range: (_, low, high) => wide(low, high) },
      axis: {
        splits: ({ scales: { x } }) => PERCENTILES.filter((one) => one >= x.min && one <= x.max),
        label: 'percentile',
        tick: percentile
      }
    },
    y: logMilliseconds,
    place: (x) => `${percentile(x)} % of the replies within`
  },
  pauses: {
    x: {
      scale: { time: false, distr: LOGARITHMIC, range: (_, low, high) => wide(low, high) },
      axis: {
        splits: ({ scales: { x } }) => logSteps(x.min, x.max),
        label: 'rank',
        tick: plain
      }
    },
    y: logMilliseconds,
    place: (x) => `${x === 1 ? 'the' : `the ${ordinal(x)}`} longest pause`
  }
}

function padded(low, high) {
  return low > 0 ? [low / ROOM, high * ROOM] : [0.01, 1]
}

/** Widens a range of a single value, for which a logarithmic scale has no length. */
function wide(low, high) {
  return [low, Math.max(high, low * 2)]
}

module.exports = { kinds }
