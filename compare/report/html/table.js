'use strict'

const { ratio: formatRatio } = require('../../format')
const { swatch } = require('./arm-style')
const { columnsOf } = require('./columns')
const { html } = require('./markup')
const { measureOf, ratioTo } = require('./measure')
const { isControl, rolesOf } = require('../roles')
const { scrolling } = require('./scroll')
const { titleOf } = require('./title')

/** Replaces a missing figure. */
const NONE = '–'

/**
 * @param {object} experiment
 * @param {Map<string, import('./arm-style').ArmStyle>} styles
 */
function table(experiment, styles) {
  const columns = columnsOf(experiment)
  const best = columns.map((column) => bestOf(experiment, column))
  const { unit } = measureOf(experiment)
  const rows = experiment.arms.map(
    (arm) => html`<tr>
<th scope="row">${nameOf(arm, experiment, styles)}</th>
${columns.map(({ metric, format }, index) => figure(arm.median[metric], format, contends(arm, experiment) && best[index]))}
<td>${ratioOf(arm, experiment)}</td>
</tr>`
  )
  return scrolling(
    `The figures of ${titleOf(experiment)}`,
    html`<table class="figures">
<thead><tr><th scope="col">arm</th>${columns.map(({ heading }) => html`<th scope="col">${heading}</th>`)}<th scope="col">${unit} × baseline</th></tr></thead>
<tbody>${rows}</tbody>
</table>`
  )
}

function figure(value, format, best) {
  if (value === undefined) return html`<td>${NONE}</td>`
  const text = format(value)
  return value === best ? html`<td><strong>${text}</strong></td>` : html`<td>${text}</td>`
}

/** Returns the best figure of a column, or undefined if there is no choice. */
function bestOf(experiment, { metric, better }) {
  const values = experiment.arms
    .filter((arm) => contends(arm, experiment))
    .map((arm) => arm.median[metric])
    .filter((value) => value !== undefined)
  if (values.length < 2) return undefined
  return better === 'higher' ? Math.max(...values) : Math.min(...values)
}

/** Returns whether an arm competes; the limit and the control do not. */
function contends(arm, experiment) {
  return arm.name !== rolesOf(experiment).limit && !isControl(arm, experiment)
}

function nameOf(arm, experiment, styles) {
  const { baseline, limit } = rolesOf(experiment)
  const tags = [
    arm.name === baseline && 'baseline',
    arm.name === limit && 'limit',
    isControl(arm, experiment) && 'control',
    arm.error && 'failed'
  ].filter(Boolean)
  const marks = tags.map((tag) => html` <span class="tag ${tag}">${tag}</span>`)
  return html`${swatch(styles.get(arm.name))} <span title="${arm.about ?? ''}">${arm.name}</span>${marks}`
}

function ratioOf(arm, experiment) {
  if (arm.name === experiment.baseline && arm.runs.length > 0) return '1'
  const ratio = ratioTo(experiment, arm, 'baseline')
  return ratio ? formatRatio(ratio) : NONE
}

module.exports = { table }
