'use strict'

/** One contestant on one set of sizes, in a process of its own: prints ns per operation. */

const { setImmediate: turn } = require('node:timers/promises')
const { contestants } = require('./contestants')

/** The time for which the operation is measured, in ns. */
const MEASURED = 300e6

/** The length of one sample, in ns: long enough to have its share of collections. */
const SAMPLE = 10e6

/** Operations from one turn of the event loop to the next, where memory comes back with it. */
const OPERATIONS_PER_TURN = 64

/**
 * @param {string} name
 * @param {number[]} sizes
 */
async function main(name, sizes) {
  const { measure } = await import('mitata')
  const contestant = contestants.find((candidate) => candidate.name === name)
  if (contestant === undefined) throw new Error(`no contestant '${name}'`)
  const operation = contestant.prepare(sizes)
  const options = { min_cpu_time: MEASURED }
  if (!contestant.needsTurns) {
    const { p50: estimate } = await measure(operation, { min_cpu_time: MEASURED / 10 })
    const batch_samples = Math.max(1, Math.round(SAMPLE / estimate / 4)) * 4
    return (await measure(operation, { ...options, batch_samples, batch_threshold: SAMPLE })).p50
  }
  const inTurns = async () => {
    for (let i = 0; i < OPERATIONS_PER_TURN; i++) operation()
    await turn()
  }
  return (await measure(inTurns, options)).avg / OPERATIONS_PER_TURN
}

main(process.argv[2], JSON.parse(process.argv[3])).then((ns) => console.log(ns))
