'use strict'

const { experiments: all, findExperiment } = require('../experiments')
const { ownExperiment } = require('../experiments/own')
const { drawExperiment, drawHead } = require('../report')
const { coloursFor } = require('../report/colours')
const { duration } = require('../format')
const { Progress } = require('../report/progress')
const { ResultFile } = require('../report/result-file')
const { ClientError, ensurePrograms } = require('../runner/client-build')
const { Comparison } = require('../runner/comparison')
const { makePlan } = require('../runner/plan')
const { RunError } = require('../runner/run-error')
const { tunedCandidates } = require('../runner/tuned')
const { htmlFile } = require('./html-option')

/** The exit code of a process that a signal ended is 128 plus the signal's number. */
const SIGNALS = { SIGINT: 130, SIGTERM: 143 }

/**
 * Runs the comparison and prints it.
 *
 * @param {string[]} names of experiments; all run if there are no names and no workload
 * @param {{ workload?: string, runs?: number, duration?: number, json?: string, html?: string |
 *   true, full?: boolean, heap?: number }} options
 * @returns {Promise<number>} the exit code
 */
async function compare(names, options) {
  const experiments = await chosen(names, options.workload)
  const file = options.json === undefined ? undefined : new ResultFile(options.json)
  const page = htmlFile(options)
  const plan = makePlan(options)
  const progress = new Progress(process.stderr)
  const stop = stopOnSignal()
  try {
    const programs = await ensurePrograms({
      signal: stop.signal,
      onBuild: () => progress.say('Building the load client, once.')
    })
    for (const { tryOut } of experiments) {
      const note = await tryOut?.(stop.signal)
      if (note) progress.say(note)
    }
    const result = await new Comparison({
      plan,
      programs,
      candidates: tunedCandidates(),
      signal: stop.signal,
      observer: observer(progress, { file, page })
    }).run(experiments)
    page?.write(result)
    return exitCode(result)
  } catch (error) {
    if (stop.signal.aborted) return stop.exitCode()
    if (!(error instanceof ClientError || error instanceof RunError)) throw error
    progress.say(error.message)
    if (error.output) progress.say(error.output)
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
          ? 'Stopped early; the report holds the results until then.'
          : 'Stopped early, before anything was measured.'
      )
      return stop.exitCode()
    }
    const failed = result.experiments.some(({ arms }) => arms.some((arm) => arm.error))
    return failed ? 1 : 0
  }
}

/**
 * @param {string[]} names
 * @param {string} [workload] the file of a user's workload
 */
async function chosen(names, workload) {
  const named = [...new Set(names.map(findExperiment))]
  if (workload !== undefined) return [...named, await ownExperiment(workload)]
  return names.length === 0 ? all : named
}

function observer(progress, { file, page }) {
  const colours = coloursFor(process.stdout, process.env)
  let latest
  let headDrawn = false
  return {
    planned({ seconds, workloads, runs }) {
      const told = `${counted(workloads, 'workload')}, ${counted(runs, 'run')} of their arms, and heats for the tuned arms: about ${duration(seconds)}.`
      progress.say(told)
      progress.start(seconds)
    },
    step: (step) => progress.step(step),
    stepped: (figure) => progress.stepped(figure),
    skipped: (seconds) => progress.skip(seconds),
    extended: (seconds) => progress.extend(seconds),
    changed(result) {
      latest = result
      file?.write(result)
    },
    finished(experiment) {
      const parts = [drawExperiment(experiment, latest.meta, colours)]
      if (!headDrawn) parts.unshift(drawHead(latest))
      headDrawn = true
      progress.withoutBar(() => process.stdout.write(`${parts.join('\n\n')}\n\n`))
      page?.write(latest)
    }
  }
}

function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

/**
 * Ends all children on Ctrl-C, so that the report is printed. A second Ctrl-C ends this process at
 * once.
 */
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
