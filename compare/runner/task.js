'use strict'

const { controlFor } = require('../arms/control')
const { scheduleOf, workloadSeconds } = require('./plan')

/**
 * @typedef {object} Task one workload of one experiment, with the settings of its runs
 * @property {import('../experiments').Experiment} experiment
 * @property {import('../experiments').Workload} workload
 * @property {readonly (import('../arms').ArmKind & { role?: string, as?: string })[]} kinds with
 *   the control, which runs the baseline a second time
 * @property {import('../arms').Roles} roles
 * @property {import('./plan').Schedule} schedule
 * @property {import('../experiments').Workload} heatWorkload the workload that its heats run
 */

/**
 * @param {import('../experiments').Experiment} experiment
 * @param {import('./plan').Plan} plan
 * @returns {Task[]}
 */
function tasksOf(experiment, plan) {
  return experiment.workloads
    .filter((workload) => plan.full || !workload.fullOnly)
    .map((workload) => {
      const heatWorkload = heatsOf(experiment, workload)
      const kinds = workload.arms ?? experiment.arms
      const roles = workload.roles ?? experiment.roles
      return {
        experiment,
        workload,
        kinds: [...kinds, controlFor(kinds, roles.baseline)],
        roles,
        schedule: { ...scheduleOf(plan, workload), heat: scheduleOf(plan, heatWorkload).heat },
        heatWorkload
      }
    })
}

function heatsOf({ workloads }, workload) {
  return workloads.find(({ variant }) => variant === workload.heatsOf) ?? workload
}

/**
 * @param {Task[]} tasks
 * @param {import('./plan').Plan} plan
 * @param {number} candidates for the tuned arms
 * @returns {number} seconds that all of them take
 */
function secondsOfTasks(tasks, plan, candidates) {
  const held = new Set()
  return tasks.reduce((sum, { workload, kinds, roles, heatWorkload }) => {
    const holdsHeats = roles.tuned !== undefined && !held.has(heatWorkload)
    const counts = { arms: kinds.length, candidates: holdsHeats ? candidates : 0 }
    held.add(heatWorkload)
    return sum + workloadSeconds(plan, workload, counts)
  }, 0)
}

/**
 * Returns an experiment of the result without runs. @param {Task} task @param {object} settings of
 * the experiment
 */
function rawEntry({ experiment, workload, kinds, roles, schedule, heatWorkload }, settings) {
  const lacking = kinds
    .map((kind) => ({ kind, reason: kind.missing?.(settings) }))
    .filter(({ reason }) => reason !== undefined)
  const left = new Set(lacking.map(({ kind }) => kind))
  return {
    name: experiment.name,
    variant: workload.variant,
    title: workload.title,
    question: experiment.question,
    unit: workload.unit,
    throughput: workload.throughput,
    waits: workload.waits,
    baseline: roles.baseline,
    roles,
    durationSeconds: schedule.run.durationSeconds,
    leastRequests: schedule.run.leastRequests || undefined,
    connections: workload.unit === 'request' ? schedule.run.connections : undefined,
    notes: lacking.map(({ kind, reason }) => `${kind.name} is left out: ${reason}.`),
    tuned: [],
    tunedIn: heatWorkload === workload ? undefined : heatWorkload.variant,
    arms: kinds
      .filter((kind) => !left.has(kind))
      .map(({ name, about, role }) => ({ name, about, role, runs: [] }))
  }
}

module.exports = { tasksOf, secondsOfTasks, rawEntry }
