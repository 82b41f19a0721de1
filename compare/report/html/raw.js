'use strict'

const { html } = require('./markup')
const { scrolling } = require('./scroll')
const { titleOf } = require('./title')

/** More digits than the measurement has. */
const DIGITS = 6

/**
 * Draws every run with all of its figures, for readers who do not trust a median.
 *
 * @param {object} experiment
 */
function raw(experiment) {
  const runs = experiment.arms.flatMap((arm) => arm.runs.map((run) => ({ name: arm.name, run })))
  const metrics = [...new Set(runs.flatMap(({ run }) => numbersOf(run)))]
  if (metrics.length === 0) return undefined
  const rows = runs.map(
    ({ name, run }) =>
      html`<tr><th scope="row">${name}</th><td>${run.round ?? '–'}</td>${metrics.map((metric) => html`<td>${figure(run[metric])}</td>`)}</tr>`
  )
  return html`<details class="raw"><summary>Raw numbers: all ${runs.length} runs</summary>
${scrolling(
  `All runs of ${titleOf(experiment)}`,
  html`<table>
<thead><tr><th scope="col">arm</th><th scope="col">round</th>${metrics.map((metric) => html`<th scope="col">${metric}</th>`)}</tr></thead>
<tbody>${rows}</tbody>
</table>`
)}</details>`
}

function numbersOf(run) {
  return Object.keys(run).filter((key) => key !== 'round' && Number.isFinite(run[key]))
}

function figure(value) {
  return Number.isFinite(value) ? Number(value.toPrecision(DIGITS)) : '–'
}

module.exports = { raw }
