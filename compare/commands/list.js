'use strict'

const { experiments } = require('../experiments')

/** @returns {string} the experiments, their workloads and their arms */
function list() {
  return experiments.map(describe).join('\n\n')
}

function describe({ name, question, workloads, arms }) {
  const kinds = new Set([...arms, ...workloads.flatMap((workload) => workload.arms ?? [])])
  const width = Math.max(...[...kinds].map((arm) => arm.name.length))
  return [
    `${name}: ${question}`,
    ...workloads.map(
      ({ variant, title, fullOnly }) =>
        `  ${variant ? `${variant}: ` : ''}${title}${fullOnly ? ' (only with --full)' : ''}`
    ),
    ...[...kinds].map((arm) => `    ${arm.name.padEnd(width)}  ${arm.about}`)
  ].join('\n')
}

module.exports = { list }
