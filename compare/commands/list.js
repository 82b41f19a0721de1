'use strict'

const { arms } = require('../arms')
const { experiments } = require('../experiments')

/** @returns {string} the experiments and the arms */
function list() {
  const width = Math.max(...arms.map((arm) => arm.name.length))
  return [
    'Experiments:',
    ...experiments.flatMap(({ name, question, workloads }) => [
      `  ${name}: ${question}`,
      ...workloads.map(({ variant, title }) => `    ${variant ? `${variant}: ` : ''}${title}`)
    ]),
    '',
    'Arms of each:',
    ...arms.map(({ name, about }) => `  ${name.padEnd(width)}  ${about}`)
  ].join('\n')
}

module.exports = { list }
