'use strict'

/** Free space at both ends of the scale, as a share of it. */
const MARGIN = 0.04

/** The narrowest scale; a narrower one would magnify noise. */
const NARROWEST = [0.8, 1.25]

/** The possible marks of a scale of ratios. */
const MARKS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]

/**
 * Returns a logarithmic scale with a place for all of these ratios and for 1.
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

/**
 * Returns the style of an element from one place to another.
 *
 * @param {number} from
 * @param {number} to
 */
function span(from, to) {
  return `left:${percent(from)};width:${percent(to - from)}`
}

/** Returns the style of an element at a place. @param {number} place */
function at(place) {
  return `left:${percent(place)}`
}

function percent(share) {
  return `${(share * 100).toFixed(2)}%`
}

module.exports = { at, scaleOf, span }
