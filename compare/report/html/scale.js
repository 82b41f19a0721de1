'use strict'

/** Free space at both ends of the scale, as a share of it. */
const MARGIN = 0.04

/** Narrower scales would blow up noise: at least from one to the other. */
const NARROWEST = [0.8, 1.25]

/** Where a scale of ratios may have its marks. */
const MARKS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]

/**
 * A logarithmic scale on which all of these ratios have a place, and 1 has.
 *
 * @param {{ low: number, high: number }[]} ratios
 * @returns {{ place: (ratio: number) => number, marks: number[] }} `place` is from 0 to 1
 */
function scaleOf(ratios) {
  const lowest = Math.min(NARROWEST[0], ...ratios.map((ratio) => ratio.low))
  const highest = Math.max(NARROWEST[1], ...ratios.map((ratio) => ratio.high))
  const [low, high] = [Math.log(lowest), Math.log(highest)]
  return {
    place: (ratio) => MARGIN + ((Math.log(ratio) - low) / (high - low)) * (1 - 2 * MARGIN),
    marks: MARKS.filter((mark) => mark >= lowest && mark <= highest)
  }
}

/** The style of what goes from one place to another. @param {number} from @param {number} to */
function span(from, to) {
  return `left:${percent(from)};width:${percent(to - from)}`
}

/** The style of what stands at a place. @param {number} place */
function at(place) {
  return `left:${percent(place)}`
}

function percent(share) {
  return `${(share * 100).toFixed(2)}%`
}

module.exports = { at, scaleOf, span }
