'use strict'

const { latency } = require('./latency')
const { memory } = require('./memory')
const { pauses } = require('./pauses')
const { rolesOf } = require('../../roles')

/**
 * @typedef {object} Plot ready to be drawn: the page only places it
 * @property {string} id
 * @property {'memory' | 'latency' | 'pauses'} kind tells the axes
 * @property {string} candidate the arm that the experiment is about
 * @property {string} title
 * @property {string} hint what is drawn, in words
 * @property {string[]} arms a line each
 * @property {number[]} x
 * @property {{ label: string, values: (number | null)[][] }[]} views the first is shown, the others
 *   can be chosen; in each a list of values per arm, as long as `x`
 * @property {object} [kinds] of the collections
 */

/**
 * @param {object} experiment
 * @param {string} anchor of it on the page
 * @returns {Plot[]} those for which something has been recorded
 */
function plotsOf(experiment, anchor) {
  const { candidate } = rolesOf(experiment)
  return [memory, latency, pauses]
    .map((draw) => draw(experiment))
    .filter((plot) => plot !== undefined)
    .map((plot) => ({ id: `${anchor}-${plot.kind}`, candidate, ...plot }))
}

module.exports = { plotsOf }
