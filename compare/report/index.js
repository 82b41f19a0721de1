'use strict'

const { drawExperiment } = require('./experiment')

/**
 * Draws the whole report. Pure: the same result gives the same text.
 *
 * @param {object} result in the shape of the JSON
 * @param {ReturnType<import('picocolors').createColors>} colours
 * @returns {string}
 */
function drawResult(result, colours) {
  const tables = result.experiments.map((experiment) =>
    drawExperiment(experiment, result.meta, colours)
  )
  return [drawHead(result), ...tables].join('\n\n')
}

/**
 * @param {object} result
 * @returns {string} the machine of the measurement
 */
function drawHead({ meta }) {
  const machine = [
    `Node ${meta.node}`,
    `V8 ${meta.v8}`,
    [meta.platform, meta.arch].filter(Boolean).join(' '),
    meta.cpus === undefined ? '' : `${meta.cpus} ${meta.cpus === 1 ? 'core' : 'cores'}`,
    meta.cpuModel,
    meta.date
  ]
  const heap = meta.heapMiB > 0 ? ` Each process holds ${meta.heapMiB} MiB of other objects.` : ''
  return `Measured on ${machine.filter(Boolean).join(', ')}.${heap}`
}

module.exports = { drawResult, drawHead, drawExperiment }
