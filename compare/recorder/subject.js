'use strict'

const { findExperiment } = require('../experiments')
const { ownExperiment } = require('../experiments/own')
const { fillHeap } = require('./heap')
const { Recorder } = require('./recorder')

/**
 * @typedef {object} Spec what a process is to run, as JSON in its first argument
 * @property {string} experiment
 * @property {string} [variant]
 * @property {string} arm
 * @property {object} settings what the experiment has prepared
 * @property {number} heapMiB of objects that the process holds besides
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
 * Sets up what this process was started for.
 *
 * @param {import('../experiments').Experiment} [experiment] where it is not one of ours
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
 * The same, also where the workload is a person's own.
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
 * Does what the runner says, and ends when it goes away.
 *
 * @param {Record<string, () => void>} commands by name
 */
function obey(commands) {
  process.on('message', (command) => commands[command]())
  process.on('disconnect', quitAtOnce)
  // Ctrl-C reaches the whole process group; the runner decides when this process ends.
  process.on('SIGINT', () => {})
}

/** Lets the process end by itself, once nothing is left to do. */
function disconnect() {
  process.removeListener('disconnect', quitAtOnce)
  process.disconnect()
}

module.exports = { openAnySubject, openSubject, obey, disconnect }
