'use strict'

const { ArmProcess } = require('./arm-process')
const { LONGEST_WINDOW } = require('./plan')

/**
 * Time for the loop beyond its warm-up and its window: to start, to inspect what is held, and to
 * report.
 */
const GRACE_SECONDS = 20

/** Runs a fresh process that does operations in a loop. @param {import('./arm-run').Run} run */
async function runLoop({ spec, launch, signal }) {
  const loop = new ArmProcess('loop', spec, launch, signal)
  try {
    const { warmupSeconds, durationSeconds } = spec.timing
    const seconds = warmupSeconds + durationSeconds * LONGEST_WINDOW + GRACE_SECONDS
    const { metrics } = await loop.message('measured', seconds, 'report what it recorded')
    await loop.quit()
    return { ...metrics, errors: 0 }
  } finally {
    await loop.kill()
  }
}

module.exports = { runLoop }
