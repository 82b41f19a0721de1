'use strict'

const { percent, ratio: formatRatio, windowOf } = require('../../format')
const { commandOf, figureOf } = require('../heat')
const { swatch } = require('./arm-style')
const { html } = require('./markup')
const { scrolling } = require('./scroll')
const { titleOf } = require('./title')

/**
 * Describes the method of the whole report.
 *
 * @param {object} result
 * @param {Map<string, import('./arm-style').ArmStyle>} styles
 */
function method({ meta, experiments }, styles) {
  const controlled = experiments.some(({ control }) => control)
  return html`<section id="method" aria-labelledby="method-title">
<h2 id="method-title">How it was measured</h2>
<ul class="prose">
<li><b>Fresh processes.</b> Every run has its own process, so no arm inherits another’s heap, memory that malloc retains, or compiled code. The warm-up does not count.</li>
${meta.heapMiB > 0 && html`<li><b>The heap of an application.</b> Every process holds ${meta.heapMiB} MiB of other objects. V8 starts no incremental marking while its old generation is below 8 MiB, and a bare server is close to that: a little code more or less would decide how V8 collects an arm’s garbage.</li>`}
<li><b>Interleaved rounds.</b> Every arm runs once per round, in an order that changes at random. A temporary slowdown of the machine hits all arms.</li>
<li><b>Paired ratios.</b> The report compares an arm with the baseline of the same round. A ratio is the median of these${meta.interval && html`; its interval is in brackets: ${meta.interval}`}.</li>
${controlled && html`<li><b>A/A control.</b> The baseline runs a second time under another name. If the interval of its ratio to itself does not contain 1, the machine was too noisy, and the report claims nothing.</li>`}
<li><b>V8 at its best.</b> The tuned arm runs under the settings that won short heats before the rounds; each experiment lists all candidates.</li>
<li><b>The plots</b> of memory and collections show the median run of each arm; those of latency show all rounds together. Drag over a part to enlarge it, double-click to see the whole again.</li>
</ul>
${arms(experiments, styles)}
</section>`
}

function arms(experiments, styles) {
  const abouts = new Map()
  for (const arm of experiments.flatMap((experiment) => experiment.arms)) {
    if (arm.about && !abouts.has(arm.name)) abouts.set(arm.name, arm.about)
  }
  if (abouts.size === 0) return undefined
  return html`<h3>The arms</h3>
<dl class="arms">${[...abouts].map(([name, about]) => html`<div><dt>${swatch(styles.get(name))} ${name}</dt><dd>${about}</dd></div>`)}</dl>`
}

/**
 * Describes the parts of the method that one experiment adds.
 *
 * @param {object} experiment
 * @param {object} meta
 */
function methodOf(experiment, meta) {
  const facts = [rounds(experiment, meta), load(experiment, meta), controlOf(experiment)]
  return html`<p class="method">${facts.filter(Boolean).join(' ')}</p>${heats(experiment)}`
}

function rounds({ arms, throughput, ...experiment }, meta) {
  const durationSeconds = experiment.durationSeconds ?? meta.durationSeconds
  const most = Math.max(0, ...arms.map((arm) => arm.runs.length))
  const what = most === 1 ? 'One round' : `Medians of ${most} rounds`
  const length = windowOf(durationSeconds, experiment)
  const bytes = throughput ? ` GB/s: ${throughput}.` : ''
  return `${what}${length}.${bytes} GC ms and faults are those of one round; MB and GB are powers of ten.`
}

/**
 * Shows the client's share of a core, so that the reader sees that the client was not the limit.
 */
function load({ arms, ...experiment }, meta) {
  const connections = experiment.connections ?? meta.connections
  const client = range(arms, 'clientCpuShare')
  const server = range(arms, 'serverCpuShare')
  if (!client || !server) return undefined
  const through = connections ? ` through ${connections} connections` : ''
  return `Load${through}: the client used ${client} of a core, the server ${server}.`
}

function range(arms, metric) {
  const shares = arms.map((arm) => arm.median[metric]).filter((share) => share !== undefined)
  if (shares.length === 0) return undefined
  const [low, high] = [percent(Math.min(...shares)), percent(Math.max(...shares))]
  return low === high ? low : `${low} to ${high}`
}

function controlOf({ control }) {
  if (!control?.ratio) return undefined
  const told = control.holds
    ? 'which contains 1, as it must'
    : 'which does not contain 1: the machine was too noisy'
  return `Control: the baseline against itself is ${formatRatio(control.ratio)}, ${told}.`
}

function heats(experiment) {
  const { tuned = [], tunedIn, unit } = experiment
  if (tuned.length === 0) return undefined
  const rows = tuned.map(
    (heat) =>
      html`<tr><th scope="row">${heat.settings}</th><td>${figureOf(heat, unit)}</td><td class="text"><code>${commandOf(heat)}</code></td></tr>`
  )
  return html`<details class="heats"><summary>Settings tried for the tuned V8${tunedIn && ` in ${tunedIn}`} (${tuned.length}); the winner: ${tuned[0].settings}</summary>
${scrolling(
  `Settings tried in ${titleOf(experiment)}`,
  html`<table><thead><tr><th scope="col">settings</th><th scope="col">lowest of the heats</th><th scope="col" class="text">command</th></tr></thead><tbody>${rows}</tbody></table>`
)}</details>`
}

module.exports = { method, methodOf }
