'use strict'

const { armStyles } = require('./arm-style')
const { contents } = require('./contents')
const { drawExperiment } = require('./experiment')
const { dateOf, head } = require('./head')
const { html } = require('./markup')
const { method } = require('./method')
const { page } = require('./page')
const { plotsOf } = require('./plots')
const { anchorOf } = require('./title')
const { verdicts } = require('./verdicts')

/**
 * Draws the whole report as one page. Pure: the same result gives the same page.
 *
 * @param {object} result in the shape of the JSON
 * @returns {string}
 */
function htmlReport(result) {
  const { meta, experiments } = result
  const styles = armStyles(experiments)
  const plots = experiments.map((experiment, index) => plotsOf(experiment, anchorOf(index)))
  const body = html`<a class="skip" href="#verdicts">Skip to the verdicts</a>
<a class="skip" href="#experiment-1">Skip to the figures</a>
${head(result)}
<main>
${verdicts(result)}
${contents(result)}
<noscript><p class="note">The plots need JavaScript; the rest of the page does not.</p></noscript>
<p class="unseen" id="keys">Left and right move the cursor, Home and End move it to the ends, Escape removes it.</p>
${experiments.map((experiment, index) => drawExperiment(experiment, index, plots[index], { meta, styles }))}
${method(result, styles)}
<section id="data" aria-labelledby="data-title">
<h2 id="data-title">The data</h2>
<p>This page holds all recorded data. <a id="download" download="cistern-compare.json" hidden>Save it as JSON</a></p>
<p class="hint"><code>npm start -- report cistern-compare.json</code> in a clone prints the report again.</p>
</section>
</main>`
  return page({
    title: ['Pooled Buffers against V8’s', dateOf(result)].filter(Boolean).join(', '),
    body,
    data: {
      plots: { plots: plots.flat(), styles: Object.fromEntries(styles) },
      result
    }
  })
}

module.exports = { htmlReport }
