'use strict'

const { arms } = require('../arms')
const { experiments: all, findExperiment } = require('../experiments')
const { drawExperiment, drawHead } = require('../report')
const { coloursFor } = require('../report/colours')
const { duration } = require('../report/format')
const { Progress } = require('../report/progress')
const { ResultFile } = require('../report/result-file')
const { ClientError, ensureClient } = require('../runner/client-build')
const { Comparison } = require('../runner/comparison')
const { makePlan } = require('../runner/plan')
const { tunedCandidates } = require('../runner/tuned')

/** Exit codes of a process that a signal has ended are 128 and its number. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 }

/**
 * Runs the comparison and prints it.
 *
 * @param {string[]} names of experiments; all, if there are none
 * @param {{ runs?: number, duration?: number, json?: string, full?: boolean }} options
 * @returns {Promise<number>} the exit code
 */
async function compare(names, options) {
  const experiments = names.length === 0 ? all : [...new Set(names.map(findExperiment))]
  const file = options.json === undefined ? undefined : new ResultFile(options.json)
  const plan = makePlan(options)
  const progress = new Progress(process.stderr)
  const stop = stopOnSignal()
  try {
    const client = await ensureClient({
      signal: stop.signal,
      onBuild: () => progress.say('Building the load client, once.')
    })
    const result = await new Comparison({
      arms,
      plan,
      client,
      candidates: tunedCandidates(),
      signal: stop.signal,
      observer: observer(progress, file, plan)
    }).run(experiments)
    return exitCode(result)
  } catch (error) {
    if (stop.signal.aborted) return stop.exitCode()
    if (!(error instanceof ClientError)) throw error
    progress.say(error.message)
    return 1
  } finally {
    progress.stop()
    stop.dispose()
  }

  function exitCode(result) {
    if (stop.signal.aborted) {
      const measured = result.experiments.length > 0
      progress.say(
        measured
          ? 'Stopped early; the report holds what had been measured until then.'
          : 'Stopped early, before anything was measured.'
      )
      return stop.exitCode()
    }
    const failed = result.experiments.some(({ arms }) => arms.some((arm) => arm.error))
    return failed ? 1 : 0
  }
}

function observer(progress, file, plan) {
  const colours = coloursFor(process.stdout, process.env)
  let meta
  let headDrawn = false
  return {
    planned({ seconds, workloads, arms }) {
      const told = `${workloads} ${workloads === 1 ? 'workload' : 'workloads'}, ${arms} arms, ${plan.rounds} ${plan.rounds === 1 ? 'round' : 'rounds'} of ${plan.run.durationSeconds} s and heats for v8-tuned: about ${duration(seconds)}.`
      progress.say(told)
      progress.start(seconds)
    },
    step: (step) => progress.step(step),
    stepped: (figure) => progress.stepped(figure),
    skipped: (seconds) => progress.skip(seconds),
    changed(result) {
      meta = result.meta
      file?.write(result)
    },
    finished(experiment) {
      const parts = [drawExperiment(experiment, meta, colours)]
      if (!headDrawn) parts.unshift(drawHead({ meta }))
      headDrawn = true
      progress.withoutBar(() => process.stdout.write(`${parts.join('\n\n')}\n\n`))
    }
  }
}

/** Ctrl-C ends all children and lets the report be printed; a second one ends this process at once. */
function stopOnSignal() {
  const controller = new AbortController()
  let received
  const onSignal = (name) => {
    if (received) process.exit(SIGNALS[name])
    received = name
    controller.abort()
  }
  for (const name of Object.keys(SIGNALS)) process.on(name, onSignal)
  return {
    signal: controller.signal,
    exitCode: () => SIGNALS[received],
    dispose() {
      for (const name of Object.keys(SIGNALS)) process.removeListener(name, onSignal)
    }
  }
}

module.exports = { compare }
