'use strict'

/** Rounds and seconds of a usual run: with its heats it stays below 190 s. */
const USUAL = { rounds: 3, durationSeconds: 1.6, warmupSeconds: 0.4 }

/** Of `--full`: long enough for the collector's slow cycles, and enough rounds to see outliers. */
const FULL = { rounds: 9, durationSeconds: 5, warmupSeconds: 1 }

/** A heat only has to rank settings that lie far apart. */
const HEAT = { durationSeconds: 0.25, warmupSeconds: 0.15 }

/** For each candidate, in a fresh process each: some settings do well in one process and not in the next. */
const HEATS = 3

/** One request in flight on each: enough to keep one Node process busy. */
const CONNECTIONS = 20

/** Measured: to start a server and a client and to end them, in seconds. */
const OVERHEAD_SECONDS = 0.12

/** Decides the order of the arms within the rounds. */
const SEED = 2

/**
 * @typedef {object} Timing of one run of one arm
 * @property {number} warmupSeconds
 * @property {number} durationSeconds
 * @property {number} connections
 *
 * @typedef {object} Plan
 * @property {number} rounds
 * @property {Timing} run
 * @property {Timing} heat
 * @property {number} heats for each candidate
 * @property {number} seed
 */

/**
 * @param {{ runs?: number, duration?: number, full?: boolean }} options of the command line
 * @returns {Plan}
 */
function makePlan({ runs, duration, full = false } = {}) {
  const base = full ? FULL : USUAL
  const durationSeconds = duration ?? base.durationSeconds
  const timing = (seconds, warmup) => ({
    durationSeconds: seconds,
    warmupSeconds: Math.min(warmup, seconds),
    connections: CONNECTIONS
  })
  return {
    rounds: runs ?? base.rounds,
    run: timing(durationSeconds, base.warmupSeconds),
    heat: timing(Math.min(durationSeconds, HEAT.durationSeconds), HEAT.warmupSeconds),
    heats: HEATS,
    seed: SEED
  }
}

/** @param {Timing} timing */
function secondsOf(timing) {
  return timing.warmupSeconds + timing.durationSeconds + OVERHEAD_SECONDS
}

/**
 * @param {Plan} plan
 * @param {number} candidates settings to choose from
 * @returns {number} heats that the choice takes
 */
function heatCount(plan, candidates) {
  return candidates > 1 ? candidates * plan.heats : 0
}

/**
 * @param {Plan} plan
 * @param {{ arms: number, candidates: number }} counts
 * @returns {number} seconds that one workload takes
 */
function workloadSeconds(plan, { arms, candidates }) {
  const heats = heatCount(plan, candidates) * secondsOf(plan.heat)
  return heats + plan.rounds * arms * secondsOf(plan.run)
}

module.exports = { makePlan, secondsOf, workloadSeconds }
