'use strict'

const { percent, windowOf } = require('../format')
const { commandOf, figureOf } = require('./heat')
const { evidenceTable, table } = require('./table')

/**
 * Draws one table with its captions, warnings and verdict. Pure: the same result gives the same
 * text.
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
    ...(experiment.evidence ?? []).map((evidence) => evidenceTable(evidence, colours)),
    ...(experiment.warnings ?? []).map((warning) => `${colours.yellow('Warning:')} ${warning}`),
    `${colours.bold('Verdict:')} ${experiment.verdict}`
  ]
  return parts.filter(Boolean).join('\n')
}

function caption(experiment, meta) {
  const { arms, throughput = 'bytes of Buffers taken, filled and released' } = experiment
  const { durationSeconds, interval } = { ...meta, ...defined(experiment) }
  const runs = arms.map((arm) => arm.runs.length)
  const rounds = Math.max(...runs)
  const what = rounds === 1 ? 'One round' : `Medians of ${rounds} rounds`
  const length = windowOf(durationSeconds, experiment)
  const spread = rounds > 1 && interval ? ` (in brackets: ${interval})` : ''
  return `${what}${length}${spread}. GB/s: ${throughput}. GC ms, faults: in one round.`
}

/** Returns the settings that a workload sets itself. */
function defined({ durationSeconds, connections }) {
  return {
    ...(durationSeconds === undefined ? {} : { durationSeconds }),
    ...(connections === undefined ? {} : { connections })
  }
}

/**
 * Shows the client's share of a core, so that the reader sees that the client was not the limit.
 */
function load(experiment, meta) {
  const { arms } = experiment
  const { connections } = { ...meta, ...defined(experiment) }
  const client = range(arms, 'clientCpuShare')
  const server = range(arms, 'serverCpuShare')
  if (!client || !server) return ''
  const through = connections ? `, ${connected(connections)}` : ''
  return `Load by cistern-load${through}: the client used ${client} of a core, the server ${server}.`
}

function connected(connections) {
  return `${connections} ${connections === 1 ? 'connection' : 'connections'}`
}

function range(arms, metric) {
  const shares = arms.map((arm) => arm.median[metric]).filter((share) => share !== undefined)
  if (shares.length === 0) return undefined
  const [low, high] = [percent(Math.min(...shares)), percent(Math.max(...shares))]
  return low === high ? low : `${low} to ${high}`
}

function heats({ tuned = [], tunedIn, unit }) {
  if (tuned.length === 0) return ''
  const width = Math.max(...tuned.map((heat) => figureOf(heat, unit).length))
  const lines = tuned.map((heat) => `  ${figureOf(heat, unit).padStart(width)}  ${heat.settings}`)
  const where = tunedIn ? ` in ${tunedIn}` : ''
  const head = `Settings tried for v8-tuned${where}, each with the lowest result of its short runs; the first won: ${commandOf(tuned[0])}`
  return [head, ...lines].join('\n')
}

module.exports = { drawExperiment }
