'use strict'

/**
 * @typedef {import('./tuned').Settings & { heats: number[], requestsPerSecond?: number, error?:
 *   string }} Heat
 */

/** The fewest candidates of a pass. */
const FINALISTS = 2

/**
 * Finds the best settings in several passes, each over the better half of the one before. The
 * lowest figure of each candidate decides.
 *
 * Otherwise a setting that is good in one process and bad in the next could win by a lucky heat.
 * The tuned V8 would then look worse in the rounds than V8 can be.
 *
 * @param {import('./tuned').Settings[]} candidates
 * @param {number} passes
 * @param {(settings: import('./tuned').Settings) => Promise<number>} race requests per second
 * @returns {Promise<Heat[]>} best first; those that could not run come last and have an `error`
 */
async function holdHeats(candidates, passes, race) {
  const heats = candidates.map((candidate) => ({ ...candidate, heats: [] }))
  // There is no choice.
  if (heats.length === 1) return heats
  for (let pass = 0; pass < passes; pass++) {
    for (const heat of heats.slice(0, entrants(heats.length, pass))) {
      if (!heat.error) await hold(heat, race)
    }
    heats.sort(bestFirst)
  }
  return heats
}

/**
 * Returns how many candidates run in a pass.
 *
 * @param {number} candidates
 * @param {number} pass from 0
 */
function entrants(candidates, pass) {
  return pass === 0 ? candidates : Math.max(FINALISTS, Math.ceil(candidates / 2 ** pass))
}

/**
 * Returns how many heats all passes have together.
 *
 * @param {number} candidates
 * @param {number} passes
 */
function heatCount(candidates, passes) {
  if (candidates <= 1) return 0
  return Array.from({ length: passes }, (_, pass) =>
    Math.min(candidates, entrants(candidates, pass))
  ).reduce((sum, count) => sum + count, 0)
}

async function hold(heat, race) {
  try {
    heat.heats.push(await race(heat))
    heat.requestsPerSecond = Math.min(...heat.heats)
  } catch (error) {
    heat.error = error.message
    heat.requestsPerSecond = undefined
  }
}

/** Sorts candidates of later passes first, then by their figure. */
function bestFirst(one, other) {
  const passes = other.heats.length - one.heats.length
  if (passes !== 0 && !one.error && !other.error) return passes
  return (other.requestsPerSecond ?? -1) - (one.requestsPerSecond ?? -1)
}

module.exports = { heatCount, holdHeats }
