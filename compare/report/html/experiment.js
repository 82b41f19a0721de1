'use strict'

const { outcomeOf } = require('../outcome')
const { evidence } = require('./evidence')
const { html } = require('./markup')
const { methodOf } = require('./method')
const { collections, figures } = require('./figures')
const { ratios } = require('./ratios')
const { raw } = require('./raw')
const { table } = require('./table')
const { anchorOf, titleOf } = require('./title')
const { badge } = require('./verdicts')

/**
 * @param {object} experiment
 * @param {number} index of it in the result
 * @param {object[]} plots of it
 * @param {{ meta: object, styles: Map<string, import('./arm-style').ArmStyle> }} context
 */
function drawExperiment(experiment, index, plots, { meta, styles }) {
  const anchor = anchorOf(index)
  const { title, question, verdict, warnings = [] } = experiment
  return html`<section class="experiment" id="${anchor}" aria-labelledby="${anchor}-title">
<h2 id="${anchor}-title">${titleOf(experiment)}</h2>
${title && html`<p class="what">${title}</p>`}
${question && html`<p class="question">${question}</p>`}
<div class="verdict ${outcomeOf(experiment).tone}">${badge(experiment)}<p>${verdict}</p></div>
${warned([...warnings, ...untold(experiment)])}
${table(experiment, styles)}
${ratios(experiment, styles)}
${figures(plots, styles)}
<div class="tables">${collections(plots)}${evidence(experiment)}</div>
${methodOf(experiment, meta)}
${raw(experiment)}
</section>`
}

function warned(warnings) {
  if (warnings.length === 0) return undefined
  return html`<ul class="warnings">${warnings.map((warning) => html`<li><b>Warning:</b> ${warning}</li>`)}</ul>`
}

/** Returns the failures that no warning mentions. */
function untold({ arms, warnings = [] }) {
  return arms
    .filter(
      ({ error }) =>
        error && !warnings.some((warning) => warning.includes(`failed: ${error.message}`))
    )
    .map(
      ({ name, error }) =>
        `${name} failed: ${[error.message, error.output].filter(Boolean).join('\n')}`
    )
}

module.exports = { drawExperiment }
