'use strict'

const { html } = require('./markup')

/** @param {object} result */
function head({ meta }) {
  const cores = meta.cpus && `${meta.cpus} ${meta.cpus === 1 ? 'core' : 'cores'}`
  const facts = [
    ['Node', meta.node],
    ['V8', meta.v8],
    ['Machine', list(cores, meta.cpuModel, memory(meta))],
    ['System', [meta.platform, meta.arch].filter(Boolean).join(' ')],
    ['Measured', dateOf(meta)]
  ].filter(([, value]) => value)
  return html`<header class="head">
<p class="overline">cistern-compare</p>
<h1>Pooled Buffers against V8’s</h1>
<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
${meta.finished === false && html`<p class="note">Not finished: the report holds the results until then.</p>`}
</header>`
}

function list(...values) {
  return values.filter(Boolean).join(', ')
}

function memory({ memoryBytes }) {
  return memoryBytes && `${Math.round(memoryBytes / 1e9)} GB`
}

/** Returns the date to the minute, if it is one of JSON's dates. */
function dateOf({ date }) {
  const parts = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*Z$/.exec(date)
  return parts ? `${parts[1]} ${parts[2]} UTC` : date
}

module.exports = { head, dateOf }
