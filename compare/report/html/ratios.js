'use strict'

const { ratio: formatRatio } = require('../../format')
const { html } = require('./markup')
const { measureOf, ratioTo } = require('./measure')
const { isControl, rolesOf } = require('../roles')
const { at, scaleOf, span } = require('./scale')

/**
 * Draws the ratios of the arms to the baseline, to V8 with its best settings and to the limit. A
 * bar goes from 1 to the ratio, with the interval as a line over its end. All three have the same
 * logarithmic scale.
 *
 * @param {object} experiment
 * @param {Map<string, import('./arm-style').ArmStyle>} styles
 */
function ratios(experiment, styles) {
  const panels = ['baseline', 'tuned', 'limit']
    .map((role) => panelOf(experiment, role))
    .filter(({ rows }) => rows.length > 0)
  if (panels.length === 0) return undefined
  const { place } = scaleOf(panels.flatMap(({ rows }) => rows.map(({ ratio }) => ratio)))
  const { words, better } = measureOf(experiment)
  return html`<section class="ratios">
<h3>Ratios</h3>
<p class="hint">Times ${words}; ${better} is better. Bars start at 1, which means no difference; the line over the end is the interval. All have the same logarithmic scale.</p>
<div class="panels">${panels.map((panel) => drawPanel(panel, place, styles))}</div>
</section>`
}

function panelOf(experiment, role) {
  const reference = rolesOf(experiment)[role]
  const rows = experiment.arms
    .filter((arm) => arm.name !== reference && (role === 'baseline' || !isControl(arm, experiment)))
    .map((arm) => ({ name: arm.name, ratio: ratioTo(experiment, arm, role) }))
    .filter(({ ratio }) => ratio?.low > 0)
  return { reference, rows }
}

function drawPanel({ reference, rows }, place, styles) {
  return html`<table class="bars">
<caption>against ${reference}</caption>
<thead class="unseen"><tr><th scope="col">arm</th><th scope="col">ratio and interval</th></tr></thead>
<tbody>${rows.map((row) => drawRow(row, place, styles.get(row.name)))}</tbody>
</table>`
}

function drawRow({ name, ratio }, place, { className }) {
  const [one, end, low, high] = [1, ratio.value, ratio.low, ratio.high].map(place)
  const bar = span(Math.min(one, end), Math.max(one, end))
  return html`<tr class="${className}"><th scope="row">${name}</th>
<td><span class="figure">${formatRatio(ratio)}</span>
<span class="track" aria-hidden="true"><i class="bar" style="${bar}"></i><i class="one" style="${at(one)}"></i><i class="interval" style="${span(low, high)}"></i></span></td></tr>`
}

module.exports = { ratios }
