'use strict'

const { runHttp } = require('./http-run')
const { runLoop } = require('./loop-run')
const { runProgram } = require('./program-run')

/**
 * @typedef {object} Run one run of one arm: fresh processes, one measured window
 * @property {import('../experiments').Workload} workload
 * @property {import('../arms').ArmKind} kind
 * @property {import('../recorder/subject').Spec} spec
 * @property {import('./launch').Launch} launch
 * @property {import('../experiments').Runner['programs']} programs
 * @property {AbortSignal} signal
 */

/**
 * @param {Run} run
 * @returns {Promise<Record<string, number>>} the metrics under their names in the JSON
 * @throws {import('./run-error').RunError}
 */
function runArm(run) {
  if (run.kind.program) return runProgram(run)
  return run.workload.unit === 'operation' ? runLoop(run) : runHttp(run)
}

module.exports = { runArm }
