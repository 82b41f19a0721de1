'use strict'

const { html } = require('./markup')
const { scrolling } = require('./scroll')

const number = new Intl.NumberFormat('en-US', { maximumFractionDigits: 3 })

/**
 * Draws an experiment's own tables.
 *
 * @param {object} experiment
 */
function evidence({ evidence: tables = [] }) {
  return tables.map(
    ({ title, columns, rows, note }) => html`<section>
<h3>${title}</h3>
${scrolling(
  title,
  html`<table>
<thead><tr>${columns.map((column, index) => html`<th scope="col" class="${alignment(rows, index)}">${column}</th>`)}</tr></thead>
<tbody>${rows.map(row)}</tbody>
</table>`
)}
${note && html`<p class="hint">${note}</p>`}
</section>`
  )
}

function row([first, ...rest]) {
  return html`<tr><th scope="row">${cell(first)}</th>${rest.map(
    (value) => html`<td class="${isText(value) && 'text'}">${cell(value)}</td>`
  )}</tr>`
}

function alignment(rows, index) {
  return index > 0 && rows.length > 0 && rows.every((row) => isText(row[index])) ? 'text' : ''
}

/** Returns whether a value is text. Figures align by their ends, even with a unit. */
function isText(value) {
  return typeof value === 'string' && !/^[\d+−–-]/.test(value)
}

function cell(value) {
  return Number.isFinite(value) ? number.format(value) : (value ?? '–')
}

module.exports = { evidence }
