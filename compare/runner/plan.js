'use strict'

const { heatCount } = require('./heats')

/** Rounds and seconds of a usual run, where a workload has no pace of its own. */
const USUAL = { rounds: 5, durationSeconds: 0.27, warmupSeconds: 0.08 }

/**
 * The same for `--full`: long enough for the collector's slow cycles, and enough rounds to see
 * outliers.
 */
const FULL = { rounds: 9, durationSeconds: 5, warmupSeconds: 1 }

/** A heat only has to rank settings that lie far apart. */
const HEAT = { durationSeconds: 0.14, warmupSeconds: 0.06 }

/**
 * Passes of the heats. Each heat has a fresh process: some settings do well in one process and not
 * in the next.
 */
const HEATS = 2

/**
 * With `--full`: the most that the ratio's interval may reach to either side, as a share of the
 * ratio.
 */
const PRECISION = 0.02

/**
 * The fewest replies or operations in a window. If they are slow the window lasts longer, up to ten
 * times. A window of four can show a collection, but not the speed of an arm.
 */
const LEAST_REQUESTS = 40

/** The longest window, as a multiple of its duration. The client has the same limit. */
const LONGEST_WINDOW = 10

/** Each has one request in flight, which keeps one Node process busy. */
const CONNECTIONS = 20

/**
 * Objects that each process holds, in MiB: as a small application does, and well above what V8
 * leaves unmarked.
 */
const HEAP_MIB = 8

/** The measured time to start and end a server and a client, in seconds. */
const OVERHEAD_SECONDS = 0.15

/** Sets the order of the arms within the rounds. */
const SEED = 2

/**
 * @typedef {object} Timing of one run of one arm
 * @property {number} warmupSeconds
 * @property {number} durationSeconds
 * @property {number} [leastRequests] the window lasts until it holds this many, up to
 *   {@link LONGEST_WINDOW} durations
 * @property {number} connections
 *
 * @typedef {object} Schedule of one workload
 * @property {number} rounds
 * @property {Timing} run
 * @property {Timing} heat
 *
 * @typedef {object} Settled
 * @property {number} [runs] rounds, if the command line sets them
 * @property {number} [duration] seconds of a window, if the command line sets them
 * @property {boolean} full
 * @property {number} [precision] rounds continue until the ratio has this precision
 * @property {number} heapMiB of objects that each process holds
 * @property {number} heats passes over the candidates
 * @property {number} seed
 *
 * @typedef {Schedule & Settled} Plan with the schedule of a workload that has no pace of its own
 */

/**
 * @param {{ runs?: number, duration?: number, full?: boolean, heap?: number }} options of the
 *   command line
 * @returns {Plan}
 */
function makePlan({ runs, duration, full = false, heap: heapMiB = HEAP_MIB } = {}) {
  const precision = full && runs === undefined ? PRECISION : undefined
  const plan = { runs, duration, full, precision, heapMiB, heats: HEATS, seed: SEED }
  return { ...plan, ...scheduleOf(plan, {}) }
}

/**
 * @param {Settled} plan
 * @param {{ pace?: import('../experiments').AnyWorkload['pace'], connections?: number, replyBytes?:
 *   number }} workload
 * @returns {Schedule}
 */
function scheduleOf(
  { runs, duration, full },
  { pace = {}, connections = CONNECTIONS, replyBytes }
) {
  const { rounds, durationSeconds, warmupSeconds } = full
    ? { ...FULL, ...pace.full }
    : { ...USUAL, ...pace.usual }
  const timing = (seconds, warmup) => ({
    durationSeconds: seconds,
    warmupSeconds: Math.min(warmup, seconds),
    // Replies that count by their bytes need not end within the window.
    leastRequests: replyBytes === undefined ? LEAST_REQUESTS : 0,
    connections
  })
  const run = timing(duration ?? durationSeconds, warmupSeconds)
  return {
    rounds: runs ?? rounds,
    run,
    heat: timing(Math.min(run.durationSeconds, HEAT.durationSeconds), HEAT.warmupSeconds)
  }
}

/** @param {Timing} timing */
function secondsOf(timing) {
  return timing.warmupSeconds + timing.durationSeconds + OVERHEAD_SECONDS
}

/**
 * @param {Plan} plan
 * @param {object} workload
 * @param {{ arms: number, candidates: number }} counts `candidates` is 0 where there are no heats
 * @returns {number} seconds that one workload takes
 */
function workloadSeconds(plan, workload, { arms, candidates }) {
  const { rounds, run, heat } = scheduleOf(plan, workload)
  const heats = heatCount(candidates, plan.heats) * secondsOf(heat)
  return heats + rounds * arms * secondsOf(run) + (workload.inspectSeconds ?? 0) * arms
}

module.exports = { LONGEST_WINDOW, makePlan, scheduleOf, secondsOf, workloadSeconds }
