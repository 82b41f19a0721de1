'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { OUTCOMES } = require('../analysis/verdict')
const { htmlReport } = require('../report/html')
const { armStyles } = require('../report/html/arm-style')
const { html } = require('../report/html/markup')
const { outcomeOf } = require('../report/outcome')
const { checkResult } = require('../result/schema')
const measured = require('./fixtures/measured-result')
const old = require('./fixtures/result')
const smallest = require('./fixtures/smallest-result')
const { runCli, temporaryFolder } = require('./run-cli')

/** A text that a page must escape. */
const HOSTILE = `</script><script>alert("1")</script><img src=x onerror='alert(2)'>&amp;<!--`

/** Returns the data in a script element of the page. */
function dataOf(page, id) {
  const [, text] = new RegExp(`<script type="application/json" id="${id}">(.*?)</script>`).exec(
    page
  )
  return JSON.parse(text)
}

/** Returns the page without its scripts and styles. */
function markupOf(page) {
  return page.replace(/<(script|style)\b.*?<\/\1>/gs, '')
}

/** Returns the arm's row in the first table that has it. */
function row(page, arm) {
  const rows = markupOf(page).split('<tr>')
  return rows.find((text) => text.includes(`>${arm}</span>`)).split('</tr>')[0]
}

test('the same result gives the same page, and stays as it is', () => {
  const result = measured()
  const page = htmlReport(result)
  assert.deepEqual(result, measured())
  assert.equal(htmlReport(result), page)
})

test('the page refers to nothing outside of itself, and forbids it', () => {
  const page = htmlReport(measured())
  assert.match(page, /content="default-src &#39;none&#39;;/)
  assert.doesNotMatch(page, /\b(?:src|srcset|action|poster)\s*=\s*["']/)
  assert.doesNotMatch(page, /\bhref\s*=\s*["'](?!#|data:,")/)
  assert.doesNotMatch(page, /@import|url\(/)
  assert.doesNotMatch(markupOf(page), /https?:/)
})

test('every value of the result is text on the page', () => {
  const result = measured()
  result.meta.cpuModel = HOSTILE
  result.meta.interval = HOSTILE
  const [experiment] = result.experiments
  Object.assign(experiment, { variant: HOSTILE, title: HOSTILE, question: HOSTILE })
  Object.assign(experiment, { verdict: HOSTILE, warnings: [HOSTILE] })
  Object.assign(experiment.tuned[0], { settings: HOSTILE, env: { [HOSTILE]: HOSTILE } })
  experiment.evidence = [
    { title: HOSTILE, columns: [HOSTILE], rows: [[HOSTILE, 1]], note: HOSTILE }
  ]
  Object.assign(experiment.arms[0], { name: HOSTILE, about: HOSTILE, settings: HOSTILE })
  experiment.arms[0].runs[0][HOSTILE] = 1
  for (const { pauses } of experiment.arms[0].runs) {
    for (const pause of pauses) pause.kind = HOSTILE
  }

  const page = htmlReport(result)
  assert.equal(page.match(/<\/script>/g).length, 4)
  assert.ok(!page.includes(HOSTILE))
  assert.ok(!markupOf(page).includes('<img'))
  assert.deepEqual(dataOf(page, 'result'), result)
})

test('the tag escapes its values, and only those', () => {
  assert.equal(String(html`<b>${'<'}${html`<i>${'&'}</i>`}</b>`), '<b>&lt;<i>&amp;</i></b>')
  assert.equal(
    String(html`${[1, [html`<br>`, '"']]}${undefined}${null}${false}${0}`),
    '1<br>&quot;0'
  )
})

test('old results and the smallest one become a page without plots', () => {
  for (const result of [smallest(), old()]) {
    const page = htmlReport(checkResult(result))
    assert.deepEqual(dataOf(page, 'plots').plots, [])
    assert.ok(page.includes(result.experiments[0].verdict))
    assert.doesNotMatch(markupOf(page), /undefined|NaN|null|\[object/)
  }
  assert.ok(htmlReport(old()).includes('pool-gc failed: no'))
  const empty = htmlReport({ ...smallest(), experiments: [] })
  assert.ok(empty.includes('Nothing has been measured yet.'))
})

test('each field beyond the oldest results may be missing by itself', () => {
  for (const field of [
    'series',
    'latency',
    'pauses',
    'round',
    'rssPeakBytes',
    'requestsPerSecond'
  ]) {
    const result = measured()
    for (const { arms } of result.experiments) {
      for (const { runs } of arms) {
        for (const run of runs) delete run[field]
      }
    }
    assert.doesNotMatch(markupOf(htmlReport(result)), /undefined|NaN|\[object/, field)
  }
  for (const field of ['control', 'roles', 'evidence', 'ratios', 'unit', 'tuned', 'warnings']) {
    const result = measured()
    for (const experiment of result.experiments) delete experiment[field]
    assert.doesNotMatch(markupOf(htmlReport(result)), /undefined|NaN|\[object/, field)
  }
})

test('the table has a row per arm: the best is bold, the limit and the control are marked', () => {
  const page = htmlReport(measured())
  assert.match(row(page, 'pool-reuse'), /<strong>28,243<\/strong>/)
  assert.match(
    row(page, 'v8-allocUnsafe'),
    /<span class="tag baseline">baseline<\/span>.*<td>1<\/td>/s
  )
  assert.match(row(page, 'static'), /<span class="tag limit">limit<\/span>/)
  assert.doesNotMatch(row(page, 'static'), /<strong>/)
  assert.match(row(page, 'v8-allocUnsafe again'), /<span class="tag control">control<\/span>/)
  assert.match(row(page, 'pool-safe'), /5\.30 \(5\.25–5\.50\)/)
})

test('a failed arm has a row without figures, and its last output', () => {
  const result = measured()
  result.experiments = result.experiments.slice(1, 2)
  const page = htmlReport(result)
  assert.match(row(page, 'pool-gc'), /<span class="tag failed">failed<\/span>/)
  assert.doesNotMatch(row(page, 'pool-gc'), /<td>[^–]/)
  assert.ok(page.includes('FATAL ERROR: out of &lt;memory&gt; &amp; &quot;luck&quot;'))
})

test('the page shows each outcome by words and a sign', () => {
  const { experiments } = measured()
  for (const outcome of OUTCOMES) {
    const page = htmlReport({ ...measured(), experiments: [{ ...experiments[0], outcome }] })
    const { sign, words } = outcomeOf({ outcome })
    assert.ok(page.includes(`<span aria-hidden="true">${sign}</span> ${words}</p>`), outcome)
  }
})

test('only a loss is red, and a clear gain alone has a bold figure', () => {
  const tones = OUTCOMES.map((outcome) => [outcome, outcomeOf({ outcome }).tone])
  assert.deepEqual(
    tones.filter(([, tone]) => tone === 'bad').map(([outcome]) => outcome),
    ['costs', 'beaten']
  )
  assert.equal(outcomeOf({ outcome: 'same' }).tone, 'neutral')
  const { experiments } = measured()
  const page = htmlReport({ ...measured(), experiments: [{ ...experiments[0], outcome: 'same' }] })
  assert.match(page, /<li class="card neutral">/)
  assert.doesNotMatch(page, /class="(?:card|verdict) bad"/)
  assert.match(page, /<span class="times">5\.30×<\/span>/)
  assert.match(page, /\.good \.headline \.times \{\s*font-weight: 680/)
})

test('the outcomes are counted above the verdicts', () => {
  const result = measured()
  const [first] = result.experiments
  result.experiments.push({ ...first, variant: 'again' })
  assert.ok(
    htmlReport(result).includes(
      'Of 5 workloads: pooling pays in 2, settings may do as well in 1, pooling costs more in 1, too noisy to tell in 1.'
    )
  )
})

test('an arm has one colour and dash, and shares neither within an experiment', () => {
  const { experiments } = measured()
  const strange = ['v8-readFile', 'v8-stream', 'v8-stream-256k', 'pool-readFile', 'pool-pump']
  experiments.push({ arms: strange.map((name) => ({ name })) })
  const styles = armStyles(experiments)
  for (const { arms } of experiments) {
    const slots = arms.map(({ name }) => styles.get(name))
    assert.equal(new Set(slots.map(({ slot }) => slot)).size, arms.length)
    assert.equal(new Set(slots.map(({ dash }) => String(dash))).size, arms.length)
  }
  const many = Array.from({ length: 20 }, (_, index) => ({ name: `arm ${index}` }))
  const pairs = [...armStyles([{ arms: many }]).values()].map(
    ({ slot, dash }) => `${slot}: ${dash}`
  )
  assert.equal(new Set(pairs).size, 20)
})

test('a result that the page cannot draw is rejected with its first fault', () => {
  const faults = [
    [(experiment) => experiment.evidence[0].rows.push('no row'), 'has wrong evidence'],
    [(experiment) => Object.assign(experiment, { roles: [] }), 'has wrong roles'],
    [(experiment) => Object.assign(experiment.ratios, { toTuned: null }), 'has wrong ratios'],
    [(experiment) => delete experiment.control.ratio.low, 'has a wrong control'],
    [({ arms }) => arms[0].runs[0].series.rssBytes.push(null), '.runs[0] has a wrong series'],
    [({ arms }) => delete arms[0].runs[0].series.atMs, '.runs[0] has a wrong series'],
    [({ arms }) => delete arms[0].runs[0].latency.counts, '.runs[0] has a wrong latency'],
    [({ arms }) => delete arms[0].runs[0].pauses[0].ms, '.runs[0] has wrong pauses']
  ]
  for (const [spoil, problem] of faults) {
    const result = measured()
    spoil(result.experiments[0])
    assert.throws(
      () => checkResult(result),
      ({ message }) => message.endsWith(problem),
      problem
    )
  }
  assert.doesNotThrow(() => checkResult(measured()))
})

test('--html writes the page, also from a saved run', async (context) => {
  const folder = temporaryFolder(context)
  const [saved, page] = ['result.json', 'page.html'].map((name) => path.join(folder, name))
  fs.writeFileSync(saved, JSON.stringify(measured()))
  const { code, stdout } = await runCli(['report', saved, '--html', page])
  assert.equal(code, 0)
  assert.match(stdout, /Verdict: Pooling pays here/)
  assert.equal(fs.readFileSync(page, 'utf8'), htmlReport(measured()))
  assert.deepEqual(fs.readdirSync(folder).sort(), ['page.html', 'result.json'])
})

test('the overview has a row for each experiment, and further right is faster for every unit', () => {
  const slow = { value: 0.5, low: 0.25, high: 1 }
  const result = measured()
  const [one] = result.experiments
  const byTime = structuredClone({ ...one, unit: 'operation' })
  for (const arm of byTime.arms) arm.ratio.nsPerOperation = slow
  result.experiments.push(byTime)
  const overview = /<section id="overview".*?<\/section>/s.exec(htmlReport(result))[0]
  const rows = overview.split('<tr class').slice(1)
  assert.equal(rows.length, result.experiments.length)
  assert.match(rows.at(-1), />2\.00 \(1\.00–4\.00\)</)
  const candidate = one.arms.find(({ name }) => name === 'pool-safe').ratio.requestsPerSecond
  assert.match(rows[0], new RegExp(`cistern ${candidate.value.toFixed(2)} times`))
})

test('without a ratio there is no overview', () => {
  const result = measured()
  for (const { arms } of result.experiments) for (const arm of arms) arm.ratio = {}
  assert.doesNotMatch(htmlReport(result), /id="overview"/)
})
