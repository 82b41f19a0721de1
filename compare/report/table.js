'use strict'

const Table = require('cli-table3')
const { columnsFor } = require('./columns')
const { count, ratio, short } = require('../format')
const { isControl, rolesOf } = require('./roles')

/** Replaces a missing figure. */
const NONE = '–'

/**
 * @param {object} experiment in the shape of the JSON
 * @param {ReturnType<import('picocolors').createColors>} colours
 * @returns {string} one row per arm
 */
function table(experiment, colours) {
  const { arms, baseline, unit } = experiment
  const { limit } = rolesOf(experiment)
  const contenders = arms.filter((arm) => arm.name !== limit && !isControl(arm, experiment))
  const columns = columnsFor(unit)
  const drawn = new Table({
    head: ['arm', ...columns.map((column) => column.heading), `${columns[0].heading} × baseline`],
    colAligns: ['left', ...columns.map(() => 'right'), 'right'],
    style: { head: [], border: [], compact: true }
  })
  const best = columns.map((column) => bestOf(contenders, column))
  for (const arm of arms) {
    const figures = columns.map(({ metric, format }, index) => {
      const value = arm.median[metric]
      if (value === undefined) return NONE
      return contenders.includes(arm) && value === best[index]
        ? colours.bold(format(value))
        : format(value)
    })
    drawn.push([
      nameOf(arm, baseline, limit, colours),
      ...figures,
      ratioOf(arm, baseline, columns[0].metric)
    ])
  }
  return drawn.toString()
}

/** Returns the best figure of a column, or undefined if there is no choice. */
function bestOf(contenders, { metric, better }) {
  const values = contenders.map((arm) => arm.median[metric]).filter((value) => value !== undefined)
  if (values.length < 2) return undefined
  return better === 'higher' ? Math.max(...values) : Math.min(...values)
}

function nameOf(arm, baseline, limit, colours) {
  if (arm.error) return `${arm.name} ${colours.red('(failed)')}`
  if (arm.name === baseline) return `${arm.name} ${colours.cyan('(baseline)')}`
  return arm.name === limit ? `${arm.name} ${colours.dim('(limit)')}` : arm.name
}

function ratioOf(arm, baseline, metric) {
  if (arm.name === baseline && arm.runs.length > 0) return '1'
  return arm.ratio[metric] ? ratio(arm.ratio[metric]) : NONE
}

/**
 * @param {{ title: string, columns: string[], rows: (string | number)[][], note?: string }}
 *   evidence
 * @param {ReturnType<import('picocolors').createColors>} colours
 * @returns {string} a table of its own, with its title above and its note below
 */
function evidenceTable({ title, columns, rows, note }, colours) {
  const drawn = new Table({
    head: columns,
    colAligns: columns.map((_, index) => (index === 0 ? 'left' : 'right')),
    style: { head: [], border: [], compact: true }
  })
  for (const row of rows) drawn.push(row.map(cell))
  return [colours.bold(title), drawn.toString(), note].filter(Boolean).join('\n')
}

function cell(value) {
  if (typeof value !== 'number') return value
  return Number.isInteger(value) ? count(value) : short(value)
}

module.exports = { table, evidenceTable }
