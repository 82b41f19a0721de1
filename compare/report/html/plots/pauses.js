'use strict'

const { medianRun } = require('../measure')
const { isControl } = require('../../roles')

/** Ranks that are drawn: all of the first, then a fixed number per decade. */
const ALL_UP_TO = 20
const STEPS_PER_DECADE = 24

/**
 * Plots the pauses of one run per arm, the longest first, to show the worst and their number.
 *
 * @param {object} experiment
 */
function pauses(experiment) {
  const lines = experiment.arms
    .filter((arm) => !isControl(arm, experiment))
    .map((arm) => ({ arm: arm.name, run: medianRun(arm, experiment, isRecorded) }))
    .filter(({ run }) => run)
    .map(({ arm, run }) => ({ arm, pauses: run.pauses, sorted: lengths(run.pauses) }))
  const most = Math.max(0, ...lines.map(({ sorted }) => sorted.length))
  if (most === 0) return undefined
  const ranks = ranksTo(most)
  return {
    kind: 'pauses',
    title: 'Garbage collection pauses, longest first',
    hint: 'Milliseconds for which the process stood still; one run of each arm.',
    arms: lines.map(({ arm }) => arm),
    x: ranks,
    views: [
      {
        label: 'Pauses',
        values: lines.map(({ sorted }) => ranks.map((rank) => sorted[rank - 1] ?? null))
      }
    ],
    kinds: kindsOf(lines)
  }
}

function isRecorded({ pauses }) {
  return Array.isArray(pauses)
}

/** Returns the lengths of the pauses above zero, as a logarithmic scale has no place for zero. */
function lengths(pauses) {
  return pauses
    .map(({ ms }) => ms)
    .filter((ms) => ms > 0)
    .sort((one, other) => other - one)
}

function ranksTo(most) {
  const ranks = new Set([most])
  for (let rank = 1; rank < most; ) {
    ranks.add(rank)
    rank = rank < ALL_UP_TO ? rank + 1 : Math.ceil(rank * 10 ** (1 / STEPS_PER_DECADE))
  }
  return [...ranks].sort((one, other) => one - other)
}

/** Counts and lengths by kind, and how many were driven by external memory. */
function kindsOf(lines) {
  const names = [...new Set(lines.flatMap(({ pauses }) => pauses.map(({ kind }) => kind)))].sort()
  return {
    names,
    rows: lines.map(({ arm, pauses }) => ({
      arm,
      kinds: names.map((name) => sumOf(pauses.filter(({ kind }) => kind === name))),
      external: pauses.filter(({ external }) => external).length
    }))
  }
}

function sumOf(pauses) {
  return { count: pauses.length, ms: pauses.reduce((sum, { ms }) => sum + ms, 0) }
}

module.exports = { pauses }
