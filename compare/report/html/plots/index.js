'use strict'

const { latency } = require('./latency')
const { memory } = require('./memory')
const { pauses } = require('./pauses')
const { rolesOf } = require('../../roles')

/**
 * @typedef {object} Plot a complete plot, which the page only places
 * @property {string} id
 * @property {'memory' | 'latency' | 'pauses'} kind sets the axes
 * @property {string} candidate the arm that the experiment is about
 * @property {string} title
 * @property {string} hint a description
 * @property {string[]} arms one line each
 * @property {number[]} x
 * @property {{ label: string, values: (number | null)[][] }[]} views the page shows the
 *   first, and offers the others; each has a list of values per arm, as long as `x`
 * @property {object} [kinds] of the collections
 */

/**
 * @param {object} experiment
 * @param {string} anchor of it on the page
 * @returns {Plot[]} those with recorded data
 */
function plotsOf(experiment, anchor) {
  const { candidate } = rolesOf(experiment)
  return [memory, latency, pauses]
    .map((draw) => draw(experiment))
    .filter((plot) => plot !== undefined)
    .map((plot) => ({ id: `${anchor}-${plot.kind}`, candidate, ...plot }))
}

module.exports = { plotsOf }
