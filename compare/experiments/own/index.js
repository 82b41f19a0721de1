'use strict'

const path = require('node:path')
const { arms, roles } = require('../../arms')
const { loadOwnModule } = require('./module')

/** The name of the experiment. */
const NAME = 'workload'

/** Operations between two reads of the clock; the time that one takes is unknown. */
const TURN_OPERATIONS = 8

/**
 * Makes an experiment from a user's own file, under every arm.
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
    question: 'What does pooling gain for this work?',
    arms,
    roles,
    workloads: [{ ...common, ...(own.serve ? served(own.serve) : done(own.run)) }],
    // The processes of the arms load the file themselves.
    prepare: async () => ({ settings })
  }
  return {
    ...experiment,
    // Required only here: the processes of the arms do not need it.
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

/** Hands out an arm's Buffers, and counts their bytes. */
class Metered {
  bytes = 0

  /** @param {import('../../arms').OpenArm} arm */
  constructor(arm) {
    // These are functions without `this`, so that a workload may destructure them.
    this.take = (size) => {
      this.bytes += size
      return arm.take(size)
    }
    this.give = (buffer) => arm.give(buffer)
  }
}

module.exports = { ownExperiment }
