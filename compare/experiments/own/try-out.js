'use strict'

const { BASELINE, arms } = require('../../arms')
const { ArmProcess } = require('../../runner/arm-process')
const { launchWith } = require('../../runner/launch')
const { RunError } = require('../../runner/run-error')

/** The time for the process to start, to answer some requests, and to report. */
const TRIAL_SECONDS = 60

/**
 * Tries a user's own workload once under each arm, without a measurement.
 *
 * @param {import('..').Experiment} experiment
 * @param {object} settings of it
 * @param {AbortSignal} signal
 * @returns {Promise<string | undefined>} a note for the user, before the measurement
 * @throws {RunError} that says what is wrong with it
 */
async function tryOut({ name, workloads: [{ variant }] }, settings, signal) {
  let note
  for (const arm of baselineFirst()) {
    const spec = { experiment: name, variant, arm, settings, heapMiB: 0 }
    const trial = new ArmProcess('trial', spec, launchWith(), signal)
    try {
      const { flaw, taken, held } = await trial.message('tried', TRIAL_SECONDS, 'try the workload')
      if (flaw) throw trial.failure(`The workload '${variant}' ${flaw} (arm ${arm}).`)
      if (taken > 0 && held > 0) {
        note = `The workload '${variant}' did not give back ${held} of the ${taken} Buffers that it took in its trial: no pool can reuse them at once.`
      }
      await trial.quit()
    } catch (error) {
      throw error instanceof RunError ? error : new RunError(error.message)
    } finally {
      await trial.kill()
    }
  }
  return note
}

/** V8's arms show a flaw most clearly, because they never detach a Buffer. */
function baselineFirst() {
  const names = arms.map(({ name }) => name)
  return [BASELINE, ...names.filter((name) => name !== BASELINE)]
}

module.exports = { tryOut }
