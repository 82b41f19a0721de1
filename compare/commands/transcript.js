'use strict'

const { spawn } = require('node:child_process')
const path = require('node:path')
const { findExperiment } = require('../experiments')
const { Child } = require('../runner/child')
const { launchWith } = require('../runner/launch')
const { RunError } = require('../runner/run-error')
const { UsageError } = require('../usage-error')

const SCRIPT = path.join(__dirname, '../recorder/transcript.js')

const EXPERIMENT = 'http-buffers'

/** 100 Buffers take at most a second. */
const END_SECONDS = 60

/**
 * Prints the machine's free memory before and after each of 100 Buffers of 1 MiB that one request
 * makes. The program that `http-buffers` repeats did the same.
 *
 * @param {string} arm
 * @returns {Promise<number>} the exit code
 */
async function transcript(arm) {
  const { arms, roles, workloads } = findExperiment(EXPERIMENT)
  // The tuned arm has settings only after the heats.
  const names = arms.map(({ name }) => name).filter((name) => name !== roles.tuned)
  if (!names.includes(arm)) {
    throw new UsageError(`The arm '${arm}' is unknown. There are: ${names.join(', ')}.`)
  }
  const [{ variant }] = workloads
  const spec = { experiment: EXPERIMENT, variant, arm, settings: {}, heapMiB: 0 }
  const { env } = launchWith()
  const served = spawn(process.execPath, [SCRIPT, JSON.stringify(spec)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env
  })
  served.stdout.pipe(process.stdout)
  try {
    await new Child(served, 'the transcript').end(END_SECONDS)
    return 0
  } catch (error) {
    if (!(error instanceof RunError)) throw error
    console.error(`${error.message}\n${error.output}`)
    return 1
  }
}

module.exports = { transcript }
