'use strict'

const { html } = require('./markup')
const { anchorOf, titleOf } = require('./title')

/** @param {object} result */
function contents({ experiments }) {
  const entries = [
    ...experiments.map((experiment, index) => [anchorOf(index), titleOf(experiment)]),
    ['method', 'How it was measured'],
    ['data', 'The data']
  ]
  return html`<nav class="contents" aria-label="Contents">
<ul>${entries.map(([anchor, text]) => html`<li><a href="#${anchor}">${text}</a></li>`)}</ul>
</nav>`
}

module.exports = { contents }
