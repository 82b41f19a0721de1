'use strict'

const Table = require('cli-table3')
const { LIMIT } = require('../arms')
const { columns } = require('./columns')
const { ratio } = require('./format')

/** Stands where there is no figure. */
const NONE = '–'

/**
 * @param {object} experiment in the shape of the JSON
 * @param {ReturnType<import('picocolors').createColors>} colours
 * @returns {string} one row per arm
 */
function table({ arms, baseline }, colours) {
  const drawn = new Table({
    head: ['arm', ...columns.map((column) => column.heading), 'req/s × baseline'],
    colAligns: ['left', ...columns.map(() => 'right'), 'right'],
    style: { head: [], border: [], compact: true }
  })
  const best = columns.map((column) => bestOf(arms, column))
  for (const arm of arms) {
    const figures = columns.map(({ metric, format }, index) => {
      const value = arm.median[metric]
      if (value === undefined) return NONE
      return value === best[index] ? colours.bold(format(value)) : format(value)
    })
    drawn.push([nameOf(arm, baseline, colours), ...figures, ratioOf(arm, baseline)])
  }
  return drawn.toString()
}

/** The best figure of a column. The limit is none of the contenders. */
function bestOf(arms, { metric, better }) {
  const values = arms
    .filter((arm) => arm.name !== LIMIT)
    .map((arm) => arm.median[metric])
    .filter((value) => value !== undefined)
  if (values.length === 0) return undefined
  return better === 'higher' ? Math.max(...values) : Math.min(...values)
}

function nameOf(arm, baseline, colours) {
  if (arm.error) return `${arm.name} ${colours.red('(failed)')}`
  if (arm.name === baseline) return `${arm.name} ${colours.cyan('(baseline)')}`
  return arm.name === LIMIT ? `${arm.name} ${colours.dim('(limit)')}` : arm.name
}

function ratioOf(arm, baseline) {
  if (arm.name === baseline && arm.runs.length > 0) return '1'
  return arm.ratio.requestsPerSecond ? ratio(arm.ratio.requestsPerSecond) : NONE
}

module.exports = { table }
