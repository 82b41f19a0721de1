'use strict'

const { findExperiment } = require('../experiments')
const { ownExperiment } = require('../experiments/own')
const { fillHeap } = require('./heap')
const { Recorder } = require('./recorder')

/**
 * @typedef {object} Spec the work of a process, as JSON in its first argument
 * @property {string} experiment
 * @property {string} [variant]
 * @property {string} arm
 * @property {object} settings that the experiment has prepared
 * @property {number} heapMiB of other objects that the process holds
 * @property {import('../runner/plan').Timing} timing
 */

/**
 * @typedef {object} Subject
 * @property {Spec} spec
 * @property {import('../experiments').Workload} workload
 * @property {object} arm
 * @property {object} state
 * @property {Recorder} recorder
 */

/** @returns {Spec} */
function readSpec() {
  return JSON.parse(process.argv[2])
}

/**
 * Sets up the work of this process.
 *
 * @param {import('../experiments').Experiment} [experiment] if it is a user's own
 * @returns {Subject}
 */
function openSubject(experiment) {
  const spec = readSpec()
  fillHeap(spec.heapMiB)
  const { workloads, arms } = experiment ?? findExperiment(spec.experiment)
  const workload = workloads.find(({ variant }) => variant === spec.variant)
  const kind = (workload.arms ?? arms).find(({ name }) => name === spec.arm)
  if (!kind) throw new Error(`There is no arm '${spec.arm}'.`)
  const arm = kind.open({ ...workload, ...spec.settings })
  const state = workload.setUp({ arm, settings: spec.settings })
  return { spec, workload, arm, state, recorder: new Recorder(arm.stats) }
}

/**
 * Sets up the work of this process, which may be a user's own workload.
 *
 * @returns {Promise<Subject>}
 */
async function openAnySubject() {
  const { workloadFile } = readSpec().settings
  return openSubject(workloadFile && (await ownExperiment(workloadFile)))
}

function quitAtOnce() {
  process.exit(0)
}

/**
 * Runs the commands that the runner sends, and exits when the runner disconnects.
 *
 * @param {Record<string, () => void>} commands by name
 */
function obey(commands) {
  process.on('message', (command) => commands[command]())
  process.on('disconnect', quitAtOnce)
  // Ctrl-C reaches the whole process group; the runner decides when this process ends.
  process.on('SIGINT', () => {})
}

/** Disconnects from the runner, so that the process ends when it has no more work. */
function disconnect() {
  process.removeListener('disconnect', quitAtOnce)
  process.disconnect()
}

module.exports = { openAnySubject, openSubject, obey, disconnect }
