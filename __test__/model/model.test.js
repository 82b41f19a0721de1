'use strict'

/**
 * The pool against a model, by sequences of calls in two threads that fast-check makes up and
 * shrinks.
 *
 * A failure shows the shortest sequence that fails, as code, and the command that has it again: it
 * sets FC_SEED, FC_PATH and FC_REPLAY for the one test. FC_RUNS multiplies the runs; FC_TRACE=1
 * writes each call before it is made, for those that end the process.
 */

const assert = require('node:assert/strict')
const { after, test } = require('node:test')
const fc = require('fast-check')
const { BufferPool } = require('../..')
const { calls } = require('../support/model/calls')
const { MODES, endsShow } = require('../support/helpers')
const { MAX_BLOCK_SIZE, Model } = require('../support/model/model')
const { Thread } = require('../support/thread')

const { FC_PATH, FC_REPLAY, FC_RUNS = 1, FC_SEED } = process.env

/** Room for a few of the largest blocks, and many of the small. */
const CEILINGS = [
  {},
  { maxBytes: 12_000, onExhausted: 'throw' },
  { maxBytes: 12_000, onExhausted: 'unpooled' }
]

/**
 * The other thread: the same in all runs, until one ends it.
 *
 * @type {Thread | undefined}
 */
let thread

function startThread() {
  if (thread === undefined) {
    const started = new Thread()
    thread = started
    started.ended.then(() => {
      if (thread === started) thread = undefined
    })
  }
  return thread
}

after(() => thread?.terminate())

/**
 * Asserts that a pool agrees with its model after any sequence of calls.
 *
 * @param {string} name of the test
 * @param {import('../..').BufferPoolOptions} options
 * @param {{ runs: number, count: number, ends: boolean }} settings
 */
async function agrees(name, options, { runs, count, ends }) {
  const settings = fc.record({
    ceiling: fc.constantFrom(...CEILINGS),
    leakSampleRate: fc.constantFrom(0, 1)
  })
  const sequence = calls({ count, ends, replayPath: FC_REPLAY })
  const property = fc.asyncProperty(settings, sequence, async (settings, sequence) => {
    const { ceiling, leakSampleRate } = settings
    const given = { ...options, ...ceiling, leakSampleRate, maxBlockSize: MAX_BLOCK_SIZE }
    const model = new Model(new BufferPool(given), given, startThread)
    const shown = JSON.stringify(given)
    model.log(`new BufferPool(${shown})`)
    try {
      await fc.asyncModelRun(() => ({ model, real: undefined }), sequence)
      await model.finish()
    } catch (error) {
      model.lines.push(
        ...error.stack.split('\n').filter((line) => !/node_modules|node:/.test(line))
      )
      throw new assert.AssertionError({ message: model.lines.join('\n') })
    }
  })
  const details = await fc.check(property, {
    numRuns: runs * Number(FC_RUNS),
    seed: FC_SEED === undefined ? undefined : Number(FC_SEED),
    path: FC_PATH
  })
  if (!details.failed) return
  const { seed, counterexamplePath, counterexample, errorInstance, numShrinks } = details
  const [, replay] = /replayPath="([^"]*)"/.exec(String(counterexample?.[1])) ?? []
  const again =
    `FC_SEED=${seed} FC_PATH=${counterexamplePath} FC_REPLAY=${replay} ` +
    `node --test --expose-gc --test-name-pattern='^${name}$' __test__/model/model.test.js`
  assert.fail(`After ${numShrinks} shrinks:\n${errorInstance?.message}\nAgain: ${again}`)
}

for (const { mode, options } of MODES) {
  const name = `A pool agrees with its model, ${mode}`
  test(name, () => agrees(name, options, { runs: 40, count: 50, ends: false }))

  const nameOfEnds = `A pool agrees with its model while threads end, ${mode}`
  test(nameOfEnds, { skip: !endsShow }, () =>
    agrees(nameOfEnds, options, { runs: 6, count: 30, ends: true })
  )
}
