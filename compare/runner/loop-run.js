'use strict'

const { ArmProcess } = require('./arm-process')
const { LONGEST_WINDOW } = require('./plan')

/** Beyond the time that it was told to take: to start, to look what is held, and to tell. */
const GRACE_SECONDS = 20

/** A fresh process that does operations in a loop. @param {import('./arm-run').Run} run */
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
