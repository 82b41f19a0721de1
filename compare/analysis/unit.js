'use strict'

/**
 * Describes the unit that an experiment counts, and the words for its figures.
 *
 * @typedef {object} Unit
 * @property {string} main the metric that decides the verdict
 * @property {boolean} higherIsBetter
 * @property {string} plural
 * @property {string} does
 * @property {(run: Record<string, number>) => Record<string, number>} withSpeed adds `speed`, the
 *   number of units per second
 */

/** @type {Record<string, Unit>} */
const units = {
  request: {
    main: 'requestsPerSecond',
    higherIsBetter: true,
    plural: 'requests',
    does: 'serves',
    withSpeed: (run) => ({ ...run, speed: run.requestsPerSecond })
  },
  operation: {
    main: 'nsPerOperation',
    higherIsBetter: false,
    plural: 'operations',
    does: 'does',
    withSpeed: (run) => ({ ...run, speed: 1e9 / run.nsPerOperation })
  }
}

/**
 * @param {{ unit?: string }} experiment
 * @returns {Unit}
 */
function unitOf({ unit = 'request' }) {
  return units[unit]
}

module.exports = { unitOf }
