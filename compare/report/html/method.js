'use strict'

const { percent, ratio: formatRatio, windowOf } = require('../../format')
const { commandOf, figureOf } = require('../heat')
const { swatch } = require('./arm-style')
const { html } = require('./markup')
const { scrolling } = require('./scroll')
const { titleOf } = require('./title')

/**
 * How the figures came about, for the whole report.
 *
 * @param {object} result
 * @param {Map<string, import('./arm-style').ArmStyle>} styles
 */
function method({ meta, experiments }, styles) {
  const controlled = experiments.some(({ control }) => control)
  return html`<section id="method" aria-labelledby="method-title">
<h2 id="method-title">How it was measured</h2>
<ul class="prose">
<li><b>Fresh processes.</b> Every run has a process of its own, so that no arm inherits another’s heap, memory kept by malloc or compiled code. A warm-up is dropped.</li>
${meta.heapMiB > 0 && html`<li><b>The heap of an application.</b> Every process holds ${meta.heapMiB} MiB of objects besides. V8 starts no incremental marking while its old generation is below 8 MiB, and a bare server is just about there: a little code more or less would decide how an arm’s garbage is collected.</li>`}
<li><b>Interleaved rounds.</b> Every arm runs once per round, in an order that changes at random. What slows the machine down for a while hits all arms.</li>
<li><b>Paired ratios.</b> An arm is compared with the baseline of the same round. A ratio is the median of these${meta.interval && html`; in brackets stands its interval: ${meta.interval}`}.</li>
${controlled && html`<li><b>A/A control.</b> The baseline runs a second time under another name. If the interval of its ratio to itself does not hold 1, the machine was too noisy, and the report claims nothing.</li>`}
<li><b>V8 at its best.</b> The tuned arm runs under the settings that won short heats before the rounds; each experiment lists all that were tried.</li>
<li><b>The plots</b> show, for memory and collections, the run of each arm that was in the middle of its rounds, and for latency all rounds together. Drag over a part to enlarge it, click twice to see all again.</li>
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
 * What one experiment adds to that.
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

/** The client's share: whoever reads the table must see that the client was not what was measured. */
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
    ? 'which holds 1, as it must'
    : 'which does not hold 1: the machine was too noisy'
  return `Control: the baseline against itself is ${formatRatio(control.ratio)}, ${told}.`
}

function heats(experiment) {
  const { tuned = [], tunedIn, unit } = experiment
  if (tuned.length === 0) return undefined
  const rows = tuned.map(
    (heat) =>
      html`<tr><th scope="row">${heat.settings}</th><td>${figureOf(heat, unit)}</td><td class="text"><code>${commandOf(heat)}</code></td></tr>`
  )
  return html`<details class="heats"><summary>Settings tried for the tuned V8${tunedIn && ` in ${tunedIn}`} (${tuned.length}); taken: ${tuned[0].settings}</summary>
${scrolling(
  `Settings tried in ${titleOf(experiment)}`,
  html`<table><thead><tr><th scope="col">settings</th><th scope="col">lowest of the heats</th><th scope="col" class="text">to have them</th></tr></thead><tbody>${rows}</tbody></table>`
)}</details>`
}

module.exports = { method, methodOf }
