'use strict'

/**
 * @typedef {import('./tuned').Settings & { heats: number[], requestsPerSecond?: number, error?: string }} Heat
 */

/** Fewer are no contest. */
const FINALISTS = 2

/**
 * Finds the best settings: several passes, each over the better half of those in the one before, and the
 * lowest figure of each decides.
 * A setting that is good in one process and bad in the next would else win by a lucky heat, and make
 * the tuned V8 look worse in the rounds than V8 can be.
 *
 * @param {import('./tuned').Settings[]} candidates
 * @param {number} passes
 * @param {(settings: import('./tuned').Settings) => Promise<number>} race requests per second
 * @returns {Promise<Heat[]>} best first; what could not run comes last and has an `error`
 */
async function holdHeats(candidates, passes, race) {
  const heats = candidates.map((candidate) => ({ ...candidate, heats: [] }))
  // Nothing to choose from.
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
 * How many run in a pass.
 *
 * @param {number} candidates
 * @param {number} pass from 0
 */
function entrants(candidates, pass) {
  return pass === 0 ? candidates : Math.max(FINALISTS, Math.ceil(candidates / 2 ** pass))
}

/**
 * How many heats there are in all.
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

/** Those who came further first. */
function bestFirst(one, other) {
  const passes = other.heats.length - one.heats.length
  if (passes !== 0 && !one.error && !other.error) return passes
  return (other.requestsPerSecond ?? -1) - (one.requestsPerSecond ?? -1)
}

module.exports = { heatCount, holdHeats }
