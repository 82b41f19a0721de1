'use strict'

const { kinds } = require('./kinds')
const { colour } = require('./theme')

/** In pixels. Narrow plots are flatter, so that one fits a phone's screen with its legend. */
const HEIGHT = 300
const NARROW = 480
const NARROW_HEIGHT = 240

/** Room for the ticks beside the axes. */
const X_AXIS = 30
const Y_AXIS = 46

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'

/** Widths of lines; the arm that the experiment is about has a thicker one. */
const WIDTH = 1.6
const CANDIDATE_WIDTH = 2.5

/**
 * @param {HTMLElement} place
 * @param {object} plot as the report made it
 * @param {Record<string, { slot: number, dash: number[] }>} styles by arm
 * @param {() => void} onCursor
 * @returns {uPlot}
 */
function drawPlot(place, plot, styles, onCursor) {
  const kind = kinds[plot.kind]
  const options = {
    ...sizeOf(place),
    legend: { show: false },
    focus: { alpha: 0.25 },
    cursor: { y: false, drag: { x: true, y: false }, points: { size: 7 } },
    scales: { x: kind.x.scale, y: kind.y.scale },
    axes: [
      { ...axis(kind.x.axis), size: X_AXIS },
      { ...axis(kind.y.axis), size: Y_AXIS }
    ],
    series: [{}, ...plot.arms.map((arm, index) => line(arm, styles[arm], plot, index))],
    hooks: { setCursor: [onCursor] }
  }
  return new uPlot(options, [plot.x, ...plot.views[0].values], place)
}

function sizeOf(place) {
  const width = place.clientWidth
  return { width, height: width < NARROW ? NARROW_HEIGHT : HEIGHT }
}

function axis({ label, splits, tick }) {
  const grid = { stroke: () => colour('--grid'), width: 1 }
  return {
    label,
    labelSize: 20,
    labelGap: 2,
    labelFont: FONT,
    font: FONT,
    stroke: () => colour('--soft'),
    grid,
    ticks: { ...grid, size: 4 },
    ...(splits && { splits, filter: (_, values) => values }),
    ...(tick && { values: (_, values) => values.map(tick) })
  }
}

function line(arm, { slot, dash }, { views, candidate }, index) {
  const few = views[0].values[index].filter((value) => value !== null).length < 3
  return {
    label: arm,
    stroke: () => colour(`--slot-${slot}`),
    width: arm === candidate ? CANDIDATE_WIDTH : WIDTH,
    dash,
    spanGaps: false,
    points: { show: few, size: 6, fill: () => colour(`--slot-${slot}`) }
  }
}

module.exports = { drawPlot, sizeOf }
