'use strict'

const { count, short } = require('../../format')
const { swatch } = require('./arm-style')
const { html } = require('./markup')
const { scrolling } = require('./scroll')

/**
 * Draws the places of the plots, with everything that needs no script.
 *
 * @param {import('./plots').Plot[]} plots
 * @param {Map<string, import('./arm-style').ArmStyle>} styles
 */
function figures(plots, styles) {
  if (plots.length === 0) return undefined
  return html`<div class="plots">${plots.map((plot) => figure(plot, styles))}</div>`
}

/**
 * Draws the kinds and causes of the collections, which the lines of the pauses do not show.
 *
 * @param {import('./plots').Plot[]} plots
 */
function collections(plots) {
  const kinds = plots.find((plot) => plot.kinds)?.kinds
  return kinds && kindsTable(kinds)
}

function figure({ id, kind, title, hint, arms, views }, styles) {
  return html`<figure class="plot ${kind}" id="${id}" aria-labelledby="${id}-title">
<figcaption><h3 id="${id}-title">${title}</h3><p class="hint">${hint}</p></figcaption>
${views.length > 1 && choice(views, title)}
<div class="canvas" tabindex="0" role="application" aria-roledescription="plot" aria-labelledby="${id}-title" aria-describedby="keys"></div>
<p class="place" aria-hidden="true">&nbsp;</p>
<ul class="legend">${arms.map((arm) => key(arm, styles))}</ul>
<p class="unseen" aria-live="polite"></p>
</figure>`
}

function choice(views, title) {
  return html`<div class="views" role="group" aria-label="${title}: which memory">${views.map(
    ({ label }, index) =>
      html`<button type="button" aria-pressed="${index === 0}">${label}</button>`
  )}</div>`
}

function key(arm, styles) {
  return html`<li><button type="button" aria-pressed="true">${swatch(styles.get(arm))}<span>${arm}</span></button><output></output></li>`
}

function kindsTable({ names, rows }) {
  const title = 'Collections by kind'
  return html`<section><h3>${title}</h3>
<p class="hint">In the same runs: their number and their total time.</p>
${scrolling(
  title,
  html`<table>
<thead><tr><th scope="col">arm</th>${names.map((name) => html`<th scope="col">${name}</th>`)}<th scope="col">by external memory</th></tr></thead>
<tbody>${rows.map(
    ({ arm, kinds, external }) =>
      html`<tr><th scope="row">${arm}</th>${kinds.map((kind) => html`<td>${kind.count === 0 ? '–' : `${count(kind.count)}: ${short(kind.ms)} ms`}</td>`)}<td>${external === 0 ? '–' : count(external)}</td></tr>`
  )}</tbody>
</table>`
)}</section>`
}

module.exports = { figures, collections }
