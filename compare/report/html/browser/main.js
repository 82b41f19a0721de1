'use strict'

const { offerDownload } = require('./download')
const { addKeyboard } = require('./keyboard')
const { Legend } = require('./legend')
const { drawPlot, sizeOf } = require('./plot')
const { onThemeChange } = require('./theme')

const { plots, styles } = JSON.parse(document.getElementById('plots').textContent)

/** The plots by id, for inspection by readers. */
window.cisternPlots = new Map(plots.map((plot) => [plot.id, show(plot)]))

function show(plot) {
  const figure = document.getElementById(plot.id)
  const place = figure.querySelector('.canvas')
  const legend = new Legend(figure, plot)
  const chart = drawPlot(place, plot, styles, (moved) => legend.tell(moved))
  legend.connect(chart)
  addKeyboard(place, chart, (at) => legend.announce(at))
  addViews(figure, chart, plot)
  new ResizeObserver(() => fit(chart, place)).observe(place)
  onThemeChange(() => {
    fit(chart, place)
    chart.redraw(false)
  })
  return chart
}

function fit(chart, place) {
  const size = sizeOf(place)
  if (size.width > 0 && size.width !== chart.width) chart.setSize(size)
}

function addViews(figure, chart, { x, views }) {
  const buttons = [...figure.querySelectorAll('.views button')]
  buttons.forEach((button, index) => {
    button.addEventListener('click', () => {
      for (const other of buttons) other.setAttribute('aria-pressed', other === button)
      chart.setData([x, ...views[index].values])
    })
  })
}

offerDownload()
