'use strict'

const { short } = require('./figures')
const { kinds } = require('./kinds')

/** The list of lines under a plot: tells the values at the cursor, shows and hides lines. */
class Legend {
  #figure
  #plot
  #keys

  /**
   * @param {HTMLElement} figure
   * @param {object} plot
   */
  constructor(figure, plot) {
    this.#figure = figure
    this.#plot = plot
    this.#keys = [...figure.querySelectorAll('.legend li')].map((item) => ({
      button: item.querySelector('button'),
      output: item.querySelector('output')
    }))
  }

  /** @param {uPlot} chart whose lines the buttons switch */
  connect(chart) {
    this.#keys.forEach(({ button }, index) => {
      const series = index + 1
      button.addEventListener('click', () => {
        const show = button.getAttribute('aria-pressed') !== 'true'
        button.setAttribute('aria-pressed', show)
        chart.setSeries(series, { show })
      })
      button.addEventListener('mouseenter', () => chart.setSeries(series, { focus: true }))
      button.addEventListener('mouseleave', () => chart.setSeries(null, { focus: true }))
    })
  }

  /** @param {uPlot} chart tells the values where its cursor is, or none */
  tell(chart) {
    const at = chart.cursor.idx
    const inside = at !== null && at !== undefined && chart.cursor.left >= 0
    const { unit } = kinds[this.#plot.kind].y
    this.#figure.querySelector('.place').textContent = inside ? this.#placeAt(at) : '\u00a0'
    this.#keys.forEach(({ output }, index) => {
      const value = inside ? chart.data[index + 1][at] : null
      output.textContent = value === null || value === undefined ? '' : `${short(value)} ${unit}`
    })
  }

  /** Tells the same to readers who can't see it. */
  announce(at) {
    const told = this.#keys
      .filter(
        ({ button, output }) => button.getAttribute('aria-pressed') === 'true' && output.value
      )
      .map(({ button, output }) => `${button.textContent.trim()} ${output.textContent}`)
    const text = at === undefined ? '' : `${this.#placeAt(at)}: ${told.join(', ') || 'nothing'}`
    this.#figure.querySelector('[aria-live]').textContent = text
  }

  #placeAt(index) {
    return kinds[this.#plot.kind].place(this.#plot.x[index])
  }
}

module.exports = { Legend }
