'use strict'

const { BASELINE, DEFAULTS } = require('../arms')

/** Two intervals that both stay within this factor of 1 show no difference worth a claim. */
const NEGLIGIBLE = 4 / 3

/** The possible outcomes of an experiment, from no knowledge to a clear gain. */
const OUTCOMES = Object.freeze([
  'none',
  'busy',
  'once',
  'noisy',
  'costs',
  'same',
  'beaten',
  'settings',
  'pays'
])

const again = 'close other programs and run it again, or take more rounds with --full'

/**
 * @typedef {Record<string, import('./ratio').Ratio>} Ratios
 *
 * @typedef {object} Roles the figures that a verdict compares; an empty object where an arm did not
 *   run
 * @property {import('./unit').Unit} unit
 * @property {string} candidate the arm that the verdict is about
 * @property {string} baseline
 * @property {string} [settings] of the tuned V8, in words
 * @property {boolean} [starved] true if the pool or the baseline had no core for itself
 * @property {{ ratio: import('./ratio').Ratio, holds: boolean }} [control] the baseline against
 *   itself
 * @property {import('./ratio').Ratio} [noise] the same in speed: it shows what chance alone can do
 * @property {Ratios} toBaseline the pool against the baseline
 * @property {Ratios} toTuned the pool against the tuned V8
 * @property {Ratios} toLimit the pool against one static buffer
 * @property {Ratios} tunedToBaseline
 * @property {Ratios} unsafeToBaseline the pool without its safe release against the baseline
 */

/**
 * Returns one sentence that says whether pooling pays, and what to do if it does not.
 *
 * @param {Roles} roles
 * @returns {string}
 */
function verdict(roles) {
  const { candidate, baseline, control, unit } = roles
  const outcome = outcomeOf(roles)
  if (outcome === 'none') return `No verdict: ${candidate} and ${baseline} have no round in common.`
  const { toBaseline, toTuned } = roles
  const facts = `${candidate} ${unit.does} ${comparedWith(toBaseline.speed, toTuned.speed, roles)}`
  switch (outcome) {
    case 'busy':
      return `The machine was too busy for a verdict: ${facts}; close other programs and run it again.`
    case 'once':
      return `One round makes no verdict: ${facts}; take more with --runs.`
    case 'noisy':
      if (control?.holds ?? true) return `Too noisy to tell: ${facts}${ofItself(roles)}; ${again}.`
      return `The machine was too noisy for a claim, ${baseline} against itself came out at ${times(control.ratio)}: ${facts}; ${again}.`
    case 'costs':
      return `Pooling costs more than it brings here: ${facts}; ${insteadOfPooling(roles)}.`
    case 'same':
      return `Pooling makes no clear difference here: ${facts}; ${insteadOfPooling(roles)}.`
    case 'beaten':
      return `Settings beat pooling here: ${facts}; ${startWith(roles)}.`
    case 'settings':
      return `Pooling beats V8's defaults here, but settings may do as well: ${facts}; ${startWith(roles)} first.`
    default:
      return `Pooling pays here: ${facts}${sideEffects(roles)}.`
  }
}

/**
 * Returns the outcome in one word.
 *
 * @param {Roles} roles
 * @returns {'none' | 'once' | 'busy' | 'noisy' | 'costs' | 'same' | 'beaten' | 'settings' | 'pays'}
 */
function outcomeOf({ toBaseline, toTuned, starved, control, noise }) {
  const base = toBaseline.speed
  if (!base) return 'none'
  if (starved) return 'busy'
  if (base.rounds < 2) return 'once'
  if (control && !control.holds) return 'noisy'
  // A difference within the noise is neither a gain nor a loss. The whole interval of a gain must
  // lie above the noise, but only the median of a loss below it: a case for something new needs the
  // stronger proof.
  const { low, high } = noise ?? { low: 1, high: 1 }
  if (base.high < 1 && base.value < low) return 'costs'
  if (base.low <= high) {
    return [base, noise ?? base].every(isNegligible) ? 'same' : 'noisy'
  }
  const tuned = toTuned.speed
  if (tuned?.high < 1) return 'beaten'
  return tuned?.low <= 1 ? 'settings' : 'pays'
}

/** Returns whether an interval excludes any difference that matters. */
function isNegligible({ low, high }) {
  return low >= 1 / NEGLIGIBLE && high <= NEGLIGIBLE
}

/** Adds how far the baseline is from itself, which a gain must exceed. */
function ofItself({ baseline, noise }) {
  if (noise === undefined) return ''
  return `, and ${baseline} is ${times(noise)} as fast as itself`
}

/** Returns the call that the usual baseline makes, or the name of another baseline. */
function plainOf({ baseline }) {
  return baseline === BASELINE ? 'Buffer.allocUnsafe' : baseline
}

function comparedWith(base, tuned, roles) {
  const { unit, settings, toLimit } = roles
  const clauses = [`${times(base)} the ${unit.plural} per second of ${plainOf(roles)}`]
  if (tuned) clauses.push(`${times(tuned)} those of the best tuned V8 (${settings})`)
  const limit = toLimit.speed
  if (limit) clauses.push(`${percent(limit)} of the limit that one static buffer sets`)
  return listed(clauses)
}

function sideEffects({ toBaseline: { gcTimeMs, rssPeakBytes } }) {
  const clauses = []
  if (gcTimeMs) clauses.push(`${times(gcTimeMs)} the baseline's garbage collection time`)
  if (rssPeakBytes) clauses.push(`${times(rssPeakBytes)} its peak memory`)
  return clauses.length === 0 ? '' : `, with ${listed(clauses)}`
}

function insteadOfPooling(roles) {
  const { unit } = roles
  const unsafe = roles.unsafeToBaseline.speed
  if (!unsafe || unsafe.low <= 1) return withoutPool(roles)
  return `${withoutPool(roles)}; or take detachOnRelease: false, for ${times(unsafe)} its ${unit.plural} per second without the safe release`
}

function withoutPool(roles) {
  const { unit } = roles
  const plain = plainOf(roles)
  const tuned = roles.tunedToBaseline.speed
  if (!tuned || tuned.low <= 1 || roles.settings === DEFAULTS) return `keep ${plain}`
  return `keep ${plain} and ${startWith(roles)}, for ${times(tuned)} its ${unit.plural} per second`
}

function startWith({ settings }) {
  return settings === DEFAULTS ? 'take more rounds with --full' : `start Node with ${settings}`
}

function times({ value, low, high, rounds }) {
  // Below 3 two decimals carry information, above 30 none do.
  const digits = value < 3 ? 2 : value < 30 ? 1 : 0
  const [middle, lowest, highest] = [value, low, high].map((ratio) => ratio.toFixed(digits))
  return rounds > 1 ? `${middle} times (${lowest} to ${highest})` : `${middle} times`
}

function percent({ value, low, high, rounds }) {
  const [middle, lowest, highest] = [value, low, high].map((ratio) => Math.round(ratio * 100))
  return rounds > 1 ? `${middle} % (${lowest} to ${highest} %)` : `${middle} %`
}

function listed(clauses) {
  const last = clauses.at(-1)
  const rest = clauses.slice(0, -1)
  return rest.length === 0 ? last : `${rest.join(', ')} and ${last}`
}

module.exports = { OUTCOMES, outcomeOf, verdict }
