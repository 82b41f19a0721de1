'use strict'

const { BASELINE, CANDIDATE, DEFAULTS } = require('../arms')

/**
 * @typedef {Record<string, import('./ratio').Ratio>} Ratios
 *
 * @typedef {object} Roles who is compared with whom; an empty object where an arm did not run
 * @property {string} [settings] of the tuned V8, in words
 * @property {boolean} [starved] the pool or the baseline did not have a core for itself
 * @property {Ratios} toBaseline the pool against the baseline
 * @property {Ratios} toTuned the pool against the tuned V8
 * @property {Ratios} toLimit the pool against one static buffer
 * @property {Ratios} tunedToBaseline
 * @property {Ratios} unsafeToBaseline the pool without its safe release against the baseline
 */

/**
 * Says in one sentence whether pooling pays, and what to do if it does not.
 *
 * @param {Roles} roles
 * @returns {string}
 */
function verdict(roles) {
  const base = roles.toBaseline.requestsPerSecond
  if (!base) return `No verdict: ${CANDIDATE} and ${BASELINE} have no round in common.`

  const tuned = roles.toTuned.requestsPerSecond
  const facts = `${CANDIDATE} serves ${comparedWith(base, tuned, roles)}`
  if (roles.starved) {
    return `The machine was too busy for a verdict: ${facts}; close other programs and run it again.`
  }
  if (base.high < 1) {
    return `Pooling costs more than it brings here: ${facts}; ${insteadOfPooling(roles)}.`
  }
  if (base.low <= 1) {
    return `Pooling makes no clear difference here: ${facts}; ${insteadOfPooling(roles)}.`
  }
  if (tuned && tuned.high < 1) {
    return `Settings beat pooling here: ${facts}; ${startWith(roles)}.`
  }
  if (tuned && tuned.low <= 1) {
    return `Pooling beats V8's defaults here, but settings may do as well: ${facts}; ${startWith(roles)} first.`
  }
  return `Pooling pays here: ${facts}${sideEffects(roles)}.`
}

function comparedWith(base, tuned, { settings, toLimit }) {
  const clauses = [`${times(base)} the requests per second of Buffer.allocUnsafe`]
  if (tuned) clauses.push(`${times(tuned)} those of the best tuned V8 (${settings})`)
  const limit = toLimit.requestsPerSecond
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
  const unsafe = roles.unsafeToBaseline.requestsPerSecond
  if (!unsafe || unsafe.low <= 1) return withoutPool(roles)
  return `${withoutPool(roles)}; or take detachOnRelease: false, for ${times(unsafe)} its requests per second without the safe release`
}

function withoutPool(roles) {
  const tuned = roles.tunedToBaseline.requestsPerSecond
  if (!tuned || tuned.low <= 1 || roles.settings === DEFAULTS) return 'keep Buffer.allocUnsafe'
  return `keep Buffer.allocUnsafe and ${startWith(roles)}, for ${times(tuned)} its requests per second`
}

function startWith({ settings }) {
  return settings === DEFAULTS ? 'take more rounds with --full' : `start Node with ${settings}`
}

function times({ value, low, high, rounds }) {
  // Two decimals say something below 3, none do above 30.
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

module.exports = { verdict }
