'use strict'

/** Steps of the cursor with Shift. */
const STRIDE = 10

/**
 * Lets the arrow keys move the cursor of a plot that has the focus.
 *
 * @param {HTMLElement} place
 * @param {uPlot} chart
 * @param {(index: number | undefined) => void} onMove
 */
function addKeyboard(place, chart, onMove) {
  let at
  place.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return
    const next = placeAfter(event, at ?? chart.cursor.idx, lastIn(chart))
    if (next === undefined) return
    event.preventDefault()
    at = next === null ? undefined : next
    moveTo(chart, at)
    onMove(at)
  })
  place.addEventListener('blur', () => {
    if (at === undefined) return
    at = undefined
    moveTo(chart, at)
  })
}

/** @returns {number | null | undefined} null takes the cursor away; undefined: not a key of ours */
function placeAfter({ key, shiftKey }, at, last) {
  const step = shiftKey ? STRIDE : 1
  switch (key) {
    case 'ArrowRight':
      return Math.min(last, at === undefined || at === null ? 0 : at + step)
    case 'ArrowLeft':
      return Math.max(0, at === undefined || at === null ? last : at - step)
    case 'Home':
      return 0
    case 'End':
      return last
    case 'Escape':
      return null
  }
}

function lastIn(chart) {
  return chart.data[0].length - 1
}

function moveTo(chart, index) {
  const left = index === undefined ? -10 : chart.valToPos(chart.data[0][index], 'x')
  chart.setCursor({ left, top: index === undefined ? -10 : chart.over.clientHeight / 2 })
}

module.exports = { addKeyboard }
