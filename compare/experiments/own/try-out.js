'use strict'

const { BASELINE, arms } = require('../../arms')
const { ArmProcess } = require('../../runner/arm-process')
const { launchWith } = require('../../runner/launch')
const { RunError } = require('../../runner/run-error')

/** To start, to answer some requests, and to tell. */
const TRIAL_SECONDS = 60

/**
 * Tries a person's own workload once under each arm, without measuring anything.
 *
 * @param {import('..').Experiment} experiment
 * @param {object} settings of it
 * @param {AbortSignal} signal
 * @returns {Promise<string | undefined>} what is worth knowing before it is measured
 * @throws {RunError} which tells what is wrong with it
 */
async function tryOut({ name, workloads: [{ variant }] }, settings, signal) {
  let note
  for (const arm of baselineFirst()) {
    const spec = { experiment: name, variant, arm, settings, heapMiB: 0 }
    const trial = new ArmProcess('trial', spec, launchWith(), signal)
    try {
      const { flaw, taken, kept } = await trial.message('tried', TRIAL_SECONDS, 'try the workload')
      if (flaw) throw trial.failure(`The workload '${variant}' ${flaw} (arm ${arm}).`)
      if (taken > 0 && kept > 0) {
        note = `The workload '${variant}' did not give back ${kept} of the ${taken} Buffers that it took in its trial: no pool can reuse them at once.`
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

/** A flaw shows in V8's memory most clearly: nothing is emptied there. */
function baselineFirst() {
  const names = arms.map(({ name }) => name)
  return [BASELINE, ...names.filter((name) => name !== BASELINE)]
}

module.exports = { tryOut }
