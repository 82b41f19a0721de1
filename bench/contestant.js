/** One contestant on one set of sizes, in a process of its own: prints ns per operation. */

const { setImmediate: turn } = require('node:timers/promises')
const { contestants } = require('./contestants')

/** How long the operation is measured, in ns: long enough for many collections. */
const MEASURED = 300e6

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
    // The median batch: each is thousands of operations long, collections included.
    return (await measure(operation, options)).p50
  }
  const inTurns = async () => {
    for (let i = 0; i < OPERATIONS_PER_TURN; i++) operation()
    await turn()
  }
  return (await measure(inTurns, options)).avg / OPERATIONS_PER_TURN
}

main(process.argv[2], JSON.parse(process.argv[3])).then((ns) => console.log(ns))
