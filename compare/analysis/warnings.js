'use strict'

const { max, min } = require('simple-statistics')
const { unitOf } = require('./unit')

/** Fewer rounds do not show the error. */
const MIN_ROUNDS = 3

/** Above this share of a core the client may be the limit. */
const CLIENT_BUSY = 0.8

/** Below this share of a core the server waited for something. */
const SERVER_IDLE = 0.85

/** An arm is unsteady if its rounds differ by more than this share of their median. */
const UNSTEADY = 0.3

/** Above this share of a run the sampling changes the run's figures. */
const SAMPLING_DEAR = 0.01

/**
 * Returns the warnings that a reader needs before trusting the figures. Each says what to do.
 *
 * @param {object} experiment with medians and ratios
 * @returns {string[]}
 */
function warnings(experiment) {
  return [
    ...failures(experiment),
    ...errors(experiment),
    ...fewRounds(experiment),
    ...clientBusy(experiment),
    ...serverIdle(experiment),
    ...unsteady(experiment),
    ...sampled(experiment)
  ]
}

function failures({ arms }) {
  const causes = new Map()
  for (const { name, error } of arms.filter((arm) => arm.error)) {
    const output = error.output ? ` Its last output:\n${error.output}` : ''
    const cause = `${error.message}. Fix the cause and run it again.${output}`
    causes.set(cause, [...(causes.get(cause) ?? []), name])
  }
  return [...causes].map(([cause, names]) => `${names.join(', ')} failed: ${cause}`)
}

function errors({ arms }) {
  return arms
    .map((arm) => ({ ...arm, failed: arm.runs.reduce((sum, run) => sum + run.errors, 0) }))
    .filter(({ failed }) => failed > 0)
    .map(
      ({ name, failed }) =>
        `${failed} requests to ${name} failed. Do not use its figures until you know the cause.`
    )
}

function fewRounds({ arms }) {
  const rounds = Math.max(0, ...arms.map((arm) => arm.runs.length))
  if (rounds === 0 || rounds >= MIN_ROUNDS) return []
  const told = rounds === 1 ? 'Only 1 round' : `Only ${rounds} rounds`
  return [
    `${told}: these are too few to estimate the error of the ratios. Use --runs ${MIN_ROUNDS} or more.`
  ]
}

function clientBusy({ arms }) {
  const busy = extremes(arms, 'clientCpuShare', max).filter(({ share }) => share > CLIENT_BUSY)
  if (busy.length === 0) return []
  return [
    `The load client used more than ${CLIENT_BUSY * 100} % of a core in a round (${told(busy)}): it may be the limit there, and the arm may be faster than shown. Compare CPU µs/req instead, or use a machine with faster cores.`
  ]
}

function serverIdle({ arms, waits }) {
  if (waits) return []
  const idle = extremes(arms, 'serverCpuShare', min).filter(({ share }) => share < SERVER_IDLE)
  if (idle.length === 0) return []
  return [
    `The server had less than ${SERVER_IDLE * 100} % of a core in a round (${told(idle)}): something else was the limit there, so its requests per second mean little. Close other programs, leave a core each to client and server, and compare CPU µs/req.`
  ]
}

/**
 * Returns the share of each arm's most extreme round: one disturbed round of three can change a
 * verdict.
 */
function extremes(arms, metric, choose) {
  return arms
    .map(({ name, runs }) => ({
      name,
      shares: runs.map((run) => run[metric]).filter(Number.isFinite)
    }))
    .filter(({ shares }) => shares.length > 0)
    .map(({ name, shares }) => ({ name, share: choose(shares) }))
}

function unsteady({ arms, ...experiment }) {
  const { main } = unitOf(experiment)
  const spreads = arms
    .filter(({ runs }) => runs.length > 0)
    .map(({ name, runs, median }) => {
      const figures = runs.map((run) => run[main])
      return { name, share: (max(figures) - min(figures)) / median[main] }
    })
    .filter(({ share }) => share > UNSTEADY)
  if (spreads.length === 0) return []
  return [
    `Rounds of the same arm differ much (${told(spreads)} from lowest to highest): the arm itself is unsteady, or something else was running. Close other programs, or use --full.`
  ]
}

function sampled({ arms }) {
  const dear = extremes(arms, 'samplingShare', max).filter(({ share }) => share > SAMPLING_DEAR)
  if (dear.length === 0) return []
  return [
    `Sampling the memory took more than ${SAMPLING_DEAR * 100} % of a run (${told(dear)}): the figures of these arms are too low by that share.`
  ]
}

function told(arms) {
  return arms.map(({ name, share }) => `${name} ${Math.round(share * 100)} %`).join(', ')
}

module.exports = { warnings, SERVER_IDLE }
