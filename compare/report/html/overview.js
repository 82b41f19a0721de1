'use strict'

const { ratio: formatRatio, short } = require('../../format')
const { outcomeOf } = require('../outcome')
const { html } = require('./markup')
const { gainOf } = require('./measure')
const { rolesOf } = require('../roles')
const { at, scaleOf, span } = require('./scale')
const { anchorOf, titleOf } = require('./title')

/** The roles that the figure shows beside the baseline, which is 1, and their look. */
const SHOWN = {
  candidate: { words: 'cistern', className: 'slot-0 bar' },
  tuned: { words: 'V8 with its best settings', className: 'slot-4 dot' },
  limit: { words: 'the limit, one buffer that is never replaced', className: 'limit' }
}

/**
 * Draws all experiments in one figure: how much faster than its baseline each pool is, V8 with its
 * best settings, and the limit. A lower time counts as faster, so further right is better in each
 * row.
 *
 * @param {object[]} experiments
 */
function overview(experiments) {
  const rows = experiments.map(rowOf)
  const shown = rows.flatMap(({ points }) => points.map(({ gain }) => gain))
  if (shown.length === 0) return undefined
  const scale = scaleOf(shown)
  return html`<section id="overview" aria-labelledby="overview-title">
<h3 id="overview-title">How much faster than V8’s Buffers</h3>
<p class="hint">Each row’s baseline is 1; further right is faster, on a logarithmic scale. The line over the end of a bar is the interval.</p>
<p class="keys" aria-hidden="true">${Object.values(SHOWN).map(({ words, className }) => html`<span><i class="${className}"></i>${words}</span>`)}</p>
<table class="overview">
<thead><tr><th scope="col"><span class="unseen">work</span></th><th scope="col" class="axis"><span class="unseen">times as fast</span>${axis(scale)}</th><th scope="col">cistern</th><th scope="col">peak memory</th><th scope="col" class="text">pooling</th></tr></thead>
<tbody>${rows.map((row) => drawRow(row, scale))}</tbody>
</table>
</section>`
}

function rowOf(experiment, index) {
  const roles = rolesOf(experiment)
  const armOf = (role) => experiment.arms.find(({ name }) => name === roles[role])
  const points = Object.keys(SHOWN)
    .filter((role) => armOf(role))
    .map((role) => ({ role, gain: gainOf(experiment, armOf(role), 'baseline') }))
    .filter(({ gain }) => gain?.low > 0)
  return { experiment, index, points, memory: armOf('candidate')?.ratio.rssPeakBytes }
}

function axis({ place, marks }) {
  return html`<span class="marks" aria-hidden="true">${marks.map((mark) => html`<i style="${at(place(mark))}">${mark}×</i>`)}</span>`
}

function drawRow({ experiment, index, points, memory }, scale) {
  const { tone, sign, words } = outcomeOf(experiment)
  const candidate = points.find(({ role }) => role === 'candidate')?.gain
  return html`<tr class="${tone}"><th scope="row"><a href="#${anchorOf(index)}">${titleOf(experiment)}</a> <span class="what">${experiment.title}</span></th>
<td class="axis"><span class="track" aria-hidden="true">${scale.marks.map((mark) => html`<i class="mark" style="${at(scale.place(mark))}"></i>`)}<i class="one" style="${at(scale.place(1))}"></i>${points.map((point) => drawPoint(point, scale))}</span><span class="unseen">${points.map(told).join('; ')}</span></td>
<td>${candidate ? formatRatio(candidate) : '–'}</td><td class="memory">${memory ? `${short(memory.value)} ×` : '–'}</td><td class="text"><span class="badge"><span aria-hidden="true">${sign}</span> ${words}</span></td></tr>`
}

function drawPoint({ role, gain }, { place }) {
  const { className } = SHOWN[role]
  const [one, end, low, high] = [1, gain.value, gain.low, gain.high].map(place)
  if (role !== 'candidate') return html`<i class="${className}" style="${at(end)}"></i>`
  return html`<i class="${className}" style="${span(Math.min(one, end), Math.max(one, end))}"></i><i class="interval" style="${span(low, high)}"></i>`
}

function told({ role, gain }) {
  return `${SHOWN[role].words} ${short(gain.value)} times`
}

module.exports = { overview }
