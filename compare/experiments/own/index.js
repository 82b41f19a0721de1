'use strict'

const path = require('node:path')
const { arms, roles } = require('../../arms')
const { loadOwnModule } = require('./module')

/** What the experiment is called, on the command line's own list, too. */
const NAME = 'workload'

/** Operations between two looks at the clock: nobody knows how long one takes. */
const TURN_OPERATIONS = 8

/**
 * The experiment that a person's own file makes, under every arm.
 *
 * @param {string} file
 * @returns {Promise<import('..').Experiment>}
 * @throws {import('../../usage-error').UsageError}
 */
async function ownExperiment(file) {
  const own = await loadOwnModule(file)
  const name = path.parse(file).name
  const common = {
    variant: name,
    title: own.title ?? name,
    maxSize: own.maxSize,
    setUp: ({ arm }) => ({ arm }),
    tearDown: ({ arm }) => arm.close()
  }
  const settings = { workloadFile: path.resolve(file) }
  const experiment = {
    name: NAME,
    question: 'What does pooling bring to this work?',
    arms,
    roles,
    workloads: [{ ...common, ...(own.serve ? served(own.serve) : done(own.run)) }],
    // The processes of the arms load it themselves.
    prepare: async () => ({ settings })
  }
  return {
    ...experiment,
    // Here and not at the top: the processes of the arms have no use for it.
    tryOut: (signal) => require('./try-out').tryOut(experiment, settings, signal)
  }
}

/** @param {NonNullable<import('./module').OwnModule['serve']>} serve */
function served(serve) {
  return {
    unit: 'request',
    async serve({ arm }, request, response) {
      const memory = new Metered(arm)
      await serve(memory, request, response)
      return memory.bytes
    }
  }
}

/** @param {NonNullable<import('./module').OwnModule['run']>} run */
function done(run) {
  return {
    unit: 'operation',
    turnOperations: TURN_OPERATIONS,
    async run({ arm }, count) {
      const memory = new Metered(arm)
      for (let i = 0; i < count; i++) {
        const result = run(memory)
        if (typeof result?.then === 'function') await result
      }
      return memory.bytes
    }
  }
}

/** An arm's memory, and how much of it was taken. */
class Metered {
  bytes = 0

  /** @param {import('../../arms').OpenArm} arm */
  constructor(arm) {
    // Functions of their own, so that a workload may take them apart.
    this.take = (size) => {
      this.bytes += size
      return arm.take(size)
    }
    this.give = (buffer) => arm.give(buffer)
  }
}

module.exports = { ownExperiment }
