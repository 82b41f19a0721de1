'use strict'

const { columnsFor } = require('../columns')

/**
 * The figures of the table. The first is the one by which the arms are ranked.
 *
 * @param {object} experiment
 * @returns {ReturnType<typeof columnsFor>} without those for which no arm has a figure
 */
function columnsOf({ arms, unit }) {
  return columnsFor(unit).filter(({ metric }) =>
    arms.some((arm) => arm.median[metric] !== undefined)
  )
}

module.exports = { columnsOf }
