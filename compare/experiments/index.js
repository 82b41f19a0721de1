'use strict'

const { UsageError } = require('../usage-error')

/**
 * @typedef {object} Arm what an experiment works with, see `arms/`
 * @property {(size: number) => Buffer} take
 * @property {(buffer: Buffer) => void} give
 * @property {() => void} close
 *
 * @typedef {object} Workload one table of the report
 * @property {string} [variant] tells the workloads of one experiment apart
 * @property {string} title what a request does
 * @property {number} maxSize of a single Buffer, in bytes
 * @property {(arm: Arm) => object} setUp makes the state that `run` works on
 * @property {(state: object) => number} run the work of one request; returns the Buffer bytes used
 * @property {(state: object) => void} tearDown
 *
 * @typedef {object} Experiment
 * @property {string} name as on the command line
 * @property {string} question that the experiment answers
 * @property {Workload[]} workloads
 */

/** @type {readonly Experiment[]} in the order in which they run */
const experiments = [require('./http-buffers'), require('./proxy')]

/** Named in the plan, and refused until they are there. */
const NOT_BUILT_YET = ['file-serving', 'byte-buffer']

/**
 * @param {string} name
 * @returns {Experiment}
 * @throws {UsageError}
 */
function findExperiment(name) {
  const found = experiments.find((experiment) => experiment.name === name)
  if (found) return found
  const names = experiments.map((experiment) => experiment.name).join(', ')
  const reason = NOT_BUILT_YET.includes(name) ? 'is not built yet' : 'is unknown'
  throw new UsageError(`The experiment '${name}' ${reason}. There are: ${names}.`)
}

module.exports = { experiments, findExperiment }
