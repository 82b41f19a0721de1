'use strict'

const { columnsFor } = require('../columns')

/**
 * Returns the columns of the table. The first one ranks the arms.
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
