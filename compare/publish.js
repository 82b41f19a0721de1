'use strict'

/**
 * `npm run publish-result -- FILE`: writes a result that `npm start -- --json FILE` saved into
 * README.md, docs/performance.md and docs/comparison.md, and its picture to docs/comparison.png. It
 * needs Chromium.
 */

const { mkdtempSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const { tmpdir } = require('node:os')
const path = require('node:path')
const { createColors } = require('picocolors')
const { unitOf } = require('./analysis/unit')
const { experiments: known } = require('./experiments')
const { drawResult } = require('./report')
const { count, ratio, short } = require('./format')
const { htmlReport } = require('./report/html')
const { gainOf } = require('./report/html/measure')
const { outcomeOf } = require('./report/outcome')
const { readResult } = require('./report/result-file')
const { Reader, findChromium } = require('./browser')
const { UsageError } = require('./usage-error')

const root = path.join(__dirname, '..')

/** A document's block of the result lies between these. */
const BEGIN = '<!-- result: npm run publish-result -->'
const END = '<!-- end of result -->'

const README = path.join(root, 'README.md')
const PERFORMANCE = path.join(root, 'docs', 'performance.md')
const PAGE = path.join(root, 'docs', 'comparison.md')
const PICTURE = path.join(root, 'docs', 'comparison.png')

/** The picture shows the page's overview. */
const WIDTH = 1280
const SCALE = 1.5
const EDGE = 16
const ALT = "How much faster than V8's Buffers: cistern, V8 with its best settings, and the limit"

const NONE = '–'

function readmeBlock({ meta }) {
  return `![${ALT}](docs/comparison.png)

One run of \`npm start\` (${machineOf(meta)}): [all of its figures](docs/performance.md).`
}

function machineOf({ node, cpus, date }) {
  return `Node ${node.slice(1)}, ${cpus} cores, ${date.slice(0, 10)}`
}

function performanceBlock({ meta, experiments }) {
  const chosen = experiments.filter(isChosen)
  const works = chosen.some(isAgainst)
    ? 'one work of each experiment, and each where pooling costs'
    : 'one work of each experiment'
  return `| work | V8's Buffers | V8, best settings | **cistern** | limit | × V8 | peak memory | pooling |
|---|---|---|---|---|---|---|---|
${chosen.map(rowOf).join('\n')}

From one run of \`npm start\` (${machineOf(meta)}). The table has ${works};
[comparison.md](comparison.md) has all of them. Figures are medians, with the 95 % interval in brackets. ${heapOf(meta)}V8's
Buffers are \`Buffer.allocUnsafe\`, for files \`createReadStream().pipe()\`. The limit is one buffer that is never replaced.`
}

function heapOf({ heapMiB }) {
  if (!heapMiB) return ''
  return `Each process holds ${heapMiB} MiB of
other objects, as an application does. The more objects, the more V8's collections cost (\`--heap 0\`: none). `
}

/** Selects the headline of each experiment, and every workload that speaks against the pool. */
function isChosen(experiment, _index, experiments) {
  return experiment === headlineOf(experiment.name, experiments) || isAgainst(experiment)
}

/**
 * Returns the workload that an experiment names as its headline, or its first where that one was
 * not run.
 */
function headlineOf(name, experiments) {
  const own = experiments.filter((experiment) => experiment.name === name)
  const headline = known.find((experiment) => experiment.name === name)?.headline
  return own.find(({ variant }) => variant === headline) ?? own[0]
}

function isAgainst({ outcome }) {
  return outcome === 'costs' || outcome === 'beaten'
}

function rowOf(experiment) {
  const { roles, title, arms } = experiment
  const unit = unitOf(experiment)
  const armOf = (role) => arms.find((arm) => arm.name === roles[role])
  const figure = (role) => {
    const value = armOf(role)?.median[unit.main]
    return value === undefined ? NONE : `${count(value)}${unit.higherIsBetter ? '/s' : ' ns'}`
  }
  const candidate = armOf('candidate')
  const own = figure('candidate')
  const memory = candidate.ratio.rssPeakBytes?.value
  return `| ${[
    title,
    figure('baseline'),
    figure('tuned'),
    isFastest(experiment, armOf) ? `**${own}**` : own,
    figure('limit'),
    ratio(gainOf(experiment, candidate, 'baseline')),
    memory === undefined ? NONE : `${short(memory)} ×`,
    outcomeOf(experiment).cell
  ].join(' | ')} |`
}

/**
 * Returns whether the pool has a better figure than V8, both with and without its best settings.
 */
function isFastest(experiment, armOf) {
  const { main, higherIsBetter } = unitOf(experiment)
  const [own, ...others] = ['candidate', 'baseline', 'tuned']
    .map((role) => armOf(role)?.median[main])
    .filter((value) => value !== undefined)
  return others.every((other) => (higherIsBetter ? own > other : own < other))
}

function page(result) {
  return `# One run of the comparison

This is the output of \`npm start\` on the machine that its first line names. \`npm start -- --html\` draws the same as a
page. [compare/README.md](../compare/README.md) explains the arms and the columns.

![${ALT}](comparison.png)

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
    const { x, y, width, height } = await page.locator('#overview').boundingBox()
    const clip = { x: x - EDGE, y: y - EDGE, width: width + 2 * EDGE, height: height + 2 * EDGE }
    await page.screenshot({ path: PICTURE, fullPage: true, clip })
  } finally {
    await reader.close()
    rmSync(folder, { recursive: true })
  }
}

/** @param {string} [file] */
async function publish(file) {
  if (file === undefined) throw new UsageError('Which result? npm run publish-result -- FILE')
  if (findChromium() === undefined) {
    throw new UsageError('Chromium is needed to draw the picture: apt install chromium')
  }
  const result = readResult(path.resolve(file))
  const documents = [
    [README, withBlock(README, readmeBlock(result))],
    [PERFORMANCE, withBlock(PERFORMANCE, performanceBlock(result))],
    [PAGE, page(result)]
  ]
  await picture(result)
  for (const [document, text] of documents) writeFileSync(document, text)
}

/**
 * Returns a document's text with its block of the result replaced.
 *
 * @param {string} document
 * @param {string} block
 */
function withBlock(document, block) {
  const text = readFileSync(document, 'utf8')
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)]
  if (begin < 0 || end < begin) {
    throw new UsageError(`${path.relative(root, document)} has no block for the result: ${BEGIN}`)
  }
  return `${text.slice(0, begin)}${BEGIN}\n${block}\n${text.slice(end)}`
}

if (require.main === module) {
  publish(process.argv[2]).catch((error) => {
    console.error(error instanceof UsageError ? error.message : error)
    process.exitCode = 1
  })
}

module.exports = { page, performanceBlock, readmeBlock }
