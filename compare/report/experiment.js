'use strict'

const { count, percent } = require('./format')
const { table } = require('./table')

/**
 * One table with all that belongs to it. Pure: the same result gives the same text.
 *
 * @param {object} experiment in the shape of the JSON
 * @param {object} meta of the same result
 * @param {ReturnType<import('picocolors').createColors>} colours
 * @returns {string}
 */
function drawExperiment(experiment, meta, colours) {
  const { name, variant, title, question } = experiment
  const heading = [name, variant].filter(Boolean).join(' ')
  const parts = [
    `${colours.bold(heading)}${title ? `: ${title}` : ''}`,
    question,
    table(experiment, colours),
    caption(experiment, meta),
    load(experiment, meta),
    heats(experiment),
    ...(experiment.warnings ?? []).map((warning) => `${colours.yellow('Warning:')} ${warning}`),
    `${colours.bold('Verdict:')} ${experiment.verdict}`
  ]
  return parts.filter(Boolean).join('\n')
}

function caption({ arms }, { durationSeconds, interval }) {
  const runs = arms.map((arm) => arm.runs.length)
  const rounds = Math.max(...runs)
  const what = rounds === 1 ? 'One round' : `Medians of ${rounds} rounds`
  const length = durationSeconds ? ` of ${durationSeconds} s` : ''
  const spread = rounds > 1 && interval ? ` (in brackets: ${interval})` : ''
  return `${what}${length}${spread}. GB/s: bytes of Buffers taken, filled and let go. GC ms, faults: in one round.`
}

/** The client's share: whoever reads the table must see that the client was not what was measured. */
function load({ arms }, { connections }) {
  const client = range(arms, 'clientCpuShare')
  const server = range(arms, 'serverCpuShare')
  if (!client || !server) return ''
  const through = connections ? ` through ${connections} connections` : ''
  return `Load${through}: the client used ${client} of a core, the server ${server}.`
}

function range(arms, metric) {
  const shares = arms.map((arm) => arm.median[metric]).filter((share) => share !== undefined)
  if (shares.length === 0) return undefined
  const [low, high] = [percent(Math.min(...shares)), percent(Math.max(...shares))]
  return low === high ? low : `${low} to ${high}`
}

function heats({ tuned = [] }) {
  if (tuned.length === 0) return ''
  const width = Math.max(...tuned.map((heat) => figure(heat).length))
  const lines = tuned.map((heat) => `  ${figure(heat).padStart(width)}  ${heat.settings}`)
  const head = `Settings tried for v8-tuned, each with the lowest of its short runs; the first was taken: ${command(tuned[0])}`
  return [head, ...lines].join('\n')
}

/** What to type to have the same settings. */
function command({ env = {}, flags = [] }) {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  return [...variables, 'node', ...flags].join(' ')
}

function figure({ requestsPerSecond, error }) {
  if (error) return 'failed'
  return requestsPerSecond === undefined ? '' : `${count(requestsPerSecond)} req/s`
}

module.exports = { drawExperiment }
