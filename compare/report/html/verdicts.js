'use strict'

const { short } = require('../../format')
const { outcomeOf } = require('../outcome')
const { html } = require('./markup')
const { measureOf, ratioTo } = require('./measure')
const { overview } = require('./overview')
const { rolesOf } = require('../roles')
const { anchorOf, titleOf } = require('./title')

/** @param {object} result */
function verdicts({ experiments }) {
  if (experiments.length === 0) return html`<p class="note">Nothing has been measured yet.</p>`
  return html`<section id="verdicts" aria-labelledby="verdicts-title">
<h2 id="verdicts-title">Is pooling worth it?</h2>
${experiments.length > 1 && html`<p class="tally">${tally(experiments)}</p>`}
${overview(experiments)}
<ul class="cards">${experiments.map(card)}</ul>
</section>`
}

/** Counts the outcomes, the most common first. */
function tally(experiments) {
  const counts = new Map()
  for (const { words } of experiments.map(outcomeOf)) {
    counts.set(words, (counts.get(words) ?? 0) + 1)
  }
  const told = [...counts]
    .sort(([, one], [, other]) => other - one)
    .map(([words, count]) => `${words.toLowerCase()} in ${count}`)
  return `Of ${experiments.length} workloads: ${told.join(', ')}.`
}

function card(experiment, index) {
  const { tone } = outcomeOf(experiment)
  return html`<li class="card ${tone}">
${badge(experiment)}
<h3><a href="#${anchorOf(index)}">${titleOf(experiment)}</a></h3>
${experiment.title && html`<p class="what">${experiment.title}</p>`}
${headline(experiment)}
<p>${experiment.verdict}</p>
</li>`
}

/** @param {object} experiment */
function badge(experiment) {
  const { sign, words } = outcomeOf(experiment)
  return html`<p class="badge"><span aria-hidden="true">${sign}</span> ${words}</p>`
}

/** Draws the figure behind the verdict, unless the verdict makes no claim. */
function headline(experiment) {
  const { candidate, baseline } = rolesOf(experiment)
  const arm = experiment.arms.find(({ name }) => name === candidate)
  const ratio = arm && ratioTo(experiment, arm, 'baseline')
  if (!ratio || outcomeOf(experiment).tone === 'noisy') return undefined
  const { words } = measureOf(experiment)
  const interval = ratio.rounds !== 1 && ` (${short(ratio.low)}–${short(ratio.high)})`
  return html`<p class="headline"><span class="times">${short(ratio.value)}×</span> <span class="words">${words} of ${baseline}${interval}</span></p>`
}

module.exports = { verdicts, badge }
