'use strict'

/**
 * `npm run publish-result -- FILE`: puts a result that `npm start -- --json FILE` has saved into README.md and
 * docs/comparison.md, with its picture in docs/comparison.png. It takes Chromium.
 */

const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { createColors } = require('picocolors')
const { unitOf } = require('./analysis/unit')
const { drawResult } = require('./report')
const { count, megabytes, ratio, short } = require('./report/format')
const { htmlReport } = require('./report/html')
const { readResult } = require('./report/result-file')
const { Reader, findChromium } = require('./test/browser')
const { UsageError } = require('./usage-error')

const root = path.join(__dirname, '..')

/** What the README has of a result stands between these. */
const BEGIN = '<!-- result: npm run publish-result -->'
const END = '<!-- end of result -->'

const README = path.join(root, 'README.md')
const PAGE = path.join(root, 'docs', 'comparison.md')
const PICTURE = path.join(root, 'docs', 'comparison.png')

/** The picture: how far apart the arms are, and their memory over time, of the first table. */
const WIDTH = 1280
const SCALE = 1.25

/** What a row calls an outcome. */
const OUTCOMES = {
  pays: 'pays',
  settings: 'V8’s settings may do as well',
  beaten: 'V8’s settings do better',
  same: 'no difference',
  costs: '**costs**',
  noisy: 'too noisy to tell',
  busy: 'too busy to tell',
  once: 'one round only',
  none: 'no verdict'
}

const NONE = '–'

function readmeBlock({ meta, experiments }) {
  const rows = experiments.map(rowOf)
  return `![Requests per second of each arm against V8's, and their memory over time](docs/comparison.png)

Node ${meta.node.slice(1)}, ${meta.cpus} cores, ${meta.date.slice(0, 10)}, \`npm start\` with its defaults; each figure is the median of its
rounds, in brackets the 95 % interval of the ratio. [docs/comparison.md](docs/comparison.md) has everything.

| work | baseline | V8, best settings | **cistern** | limit | × baseline | peak memory | pooling |
|---|---|---|---|---|---|---|---|
${rows.join('\n')}`
}

function rowOf(experiment) {
  const { roles, name, title, arms, outcome } = experiment
  const unit = unitOf(experiment)
  const armOf = (role) => arms.find((arm) => arm.name === roles[role])
  const figure = (role) => {
    const value = armOf(role)?.median[unit.main]
    return value === undefined ? NONE : `${count(value)}${unit.higherIsBetter ? '/s' : ' ns'}`
  }
  const candidate = armOf('candidate')
  const gained = candidate.ratio[unit.main]
  const told = unit.higherIsBetter ? gained : { ...gained, ...inverse(gained) }
  const memory = candidate.ratio.rssPeakBytes?.value
  return `| ${[
    `${name}: ${title}`,
    figure('baseline'),
    figure('tuned'),
    `**${figure('candidate')}**`,
    figure('limit'),
    ratio(told),
    `${megabytes(candidate.median.rssPeakBytes)} MB, ${memory === undefined ? NONE : `${short(memory)} ×`}`,
    OUTCOMES[outcome]
  ].join(' | ')} |`
}

function inverse({ value, low, high }) {
  return { value: 1 / value, low: 1 / high, high: 1 / low }
}

function page(result) {
  return `# One run of the comparison

\`npm start\`, as it prints it, on the machine of its first line; \`npm start -- --html\` draws the same as a page.
What the arms and the columns are, [compare/README.md](../compare/README.md) tells.

![Ratios, and memory over time](comparison.png)

\`\`\`text
${drawResult(result, createColors(false))}
\`\`\`
`
}

async function picture(result) {
  const folder = mkdtempSync(path.join(tmpdir(), 'cistern-picture-'))
  const reader = await Reader.open(htmlReport(result), folder)
  try {
    const { page } = await reader.visit({
      viewport: { width: WIDTH, height: 900 },
      deviceScaleFactor: SCALE,
      colorScheme: 'light'
    })
    const experiment = page.locator('section.experiment').first()
    const from = await experiment.locator('section.ratios').boundingBox()
    const to = await experiment.locator('figure.plot').first().boundingBox()
    await page.screenshot({
      path: PICTURE,
      fullPage: true,
      clip: { x: 0, y: from.y - 12, width: WIDTH, height: to.y + to.height - from.y + 24 }
    })
  } finally {
    await reader.close()
    rmSync(folder, { recursive: true })
  }
}

/** @param {string} [file] */
async function publish(file) {
  if (file === undefined) throw new UsageError('Which result? npm run publish-result -- FILE')
  if (findChromium() === undefined) {
    throw new UsageError('There is no Chromium to draw the picture: apt install chromium')
  }
  const result = readResult(path.resolve(file))
  const readme = readFileSync(README, 'utf8')
  const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)]
  if (begin < 0 || end < begin) throw new UsageError(`README.md has no place for it: ${BEGIN}`)
  const block = `${BEGIN}\n${readmeBlock(result)}\n${END}`
  await picture(result)
  writeFileSync(README, readme.slice(0, begin) + block + readme.slice(end + END.length))
  writeFileSync(PAGE, page(result))
}

if (require.main === module) {
  publish(process.argv[2]).catch((error) => {
    console.error(error instanceof UsageError ? error.message : error)
    process.exitCode = 1
  })
}

module.exports = { page, readmeBlock }
