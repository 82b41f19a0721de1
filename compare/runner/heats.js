'use strict'

/**
 * @typedef {import('./tuned').Settings & { heats: number[], requestsPerSecond?: number, error?: string }} Heat
 */

/**
 * Finds the best settings: several passes over the candidates, and the lowest figure of each decides.
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
    for (const heat of heats) {
      if (!heat.error) await hold(heat, race)
    }
  }
  return heats.sort(bestFirst)
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

function bestFirst(one, other) {
  return (other.requestsPerSecond ?? -1) - (one.requestsPerSecond ?? -1)
}

module.exports = { holdHeats }
