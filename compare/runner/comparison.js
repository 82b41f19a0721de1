'use strict'

const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { analyse, describeInterval } = require('../analysis')
const { isPrecise } = require('../analysis/precision')
const { CONTROL } = require('../arms/control')
const { random, shuffled } = require('../random')
const { count } = require('../format')
const { SCHEMA } = require('../result/schema')
const { runArm } = require('./arm-run')
const { holdHeats } = require('./heats')
const { launchWith } = require('./launch')
const { describeRun } = require('./machine')
const { secondsOf } = require('./plan')
const { rawEntry, secondsOfTasks, tasksOf } = require('./task')

/**
 * Ctrl-C reaches the children as well, so an apparent failure of an arm may be a Ctrl-C. This
 * process's own signal handler may run a moment later.
 */
const SIGNAL_GRACE_MS = 50

const NS_PER_SECOND = 1e9

/** The most rounds, as a multiple of the planned ones: on a noisier machine more would not help. */
const MOST_TIMES = 3

/**
 * @typedef {object} Observer receives the progress
 * @property {(total: { seconds: number, workloads: number, runs: number }) => void} planned
 * @property {(step: { label: string, seconds: number }) => void} step a step starts
 * @property {(figure: string) => void} stepped the step has ended
 * @property {(seconds: number) => void} skipped a planned step will not run
 * @property {(seconds: number) => void} extended the comparison runs longer than planned
 * @property {(result: object) => void} changed the result holds more than before
 * @property {(experiment: object) => void} finished an experiment is complete
 */

/** Runs experiments, arm by arm, in interleaved rounds. */
class Comparison {
  #plan
  #programs
  #candidates
  #signal
  #observer
  #result
  /** The results of the heats, by their workload. */
  #heats = new Map()

  /**
   * @param {object} options
   * @param {import('./plan').Plan} options.plan
   * @param {import('../experiments').Runner['programs']} options.programs
   * @param {import('./tuned').Settings[]} options.candidates for the tuned arms
   * @param {AbortSignal} options.signal ends everything
   * @param {Observer} options.observer
   */
  constructor({ plan, programs, candidates, signal, observer }) {
    this.#plan = plan
    this.#programs = programs
    this.#candidates = candidates
    this.#signal = signal
    this.#observer = observer
    this.#result = {
      schema: SCHEMA,
      meta: { ...describeRun(plan), interval: describeInterval(plan.rounds) },
      experiments: []
    }
  }

  /**
   * @param {import('../experiments').Experiment[]} experiments
   * @returns {Promise<object>} the result in the shape of the JSON, even after an early end
   */
  async run(experiments) {
    const tasks = experiments.flatMap((experiment) => tasksOf(experiment, this.#plan))
    this.#observer.planned({
      seconds: secondsOfTasks(tasks, this.#plan, this.#candidates.length),
      workloads: tasks.length,
      runs: tasks.reduce((sum, { kinds, schedule }) => sum + kinds.length * schedule.rounds, 0)
    })
    for (const experiment of experiments) {
      if (this.#signal.aborted) break
      const own = tasks.filter((task) => task.experiment === experiment)
      await this.#runExperiment(experiment, own)
    }
    this.#result.meta.finished = !this.#signal.aborted
    this.#observer.changed(this.#result)
    return this.#result
  }

  async #runExperiment(experiment, tasks) {
    const prepared = await this.#prepare(experiment)
    const entries = []
    try {
      for (const task of tasks) {
        if (this.#signal.aborted) break
        await this.#runWorkload(task, prepared, entries)
      }
    } finally {
      await prepared.close?.()
    }
  }

  /** Prepares the experiment. If that fails, every arm fails with the reason. */
  async #prepare(experiment) {
    const runner = { programs: this.#programs, signal: this.#signal }
    try {
      return (await experiment.prepare?.(runner)) ?? { settings: {} }
    } catch (error) {
      return { settings: {}, error: { message: error.message, output: error.output ?? '' } }
    }
  }

  async #runWorkload(task, { settings, error }, entries) {
    const raw = rawEntry(task, settings)
    for (const arm of raw.arms) arm.error = error
    entries.push(raw)
    const place = this.#result.experiments.length
    let inspected = []
    const save = () => {
      const evidence = [
        ...(task.workload.evidence?.(entries.map(withoutControl)) ?? []),
        ...inspected
      ]
      this.#result.experiments[place] = analyse({ ...raw, evidence })
      this.#observer.changed(this.#result)
    }
    const tuned = await this.#chooseTuned(task, raw, settings)
    const launchOf = (arm) => launchWith(arm.name === task.roles.tuned ? tuned : undefined)
    const specOf = ({ name }) => this.#specOf(raw, kindOf(task, name), settings, task.schedule.run)
    const next = random(this.#plan.seed)
    for (let round = 1; this.#goesOn(round, task, this.#result.experiments[place]); round++) {
      for (const arm of shuffled(raw.arms, next)) {
        if (this.#signal.aborted) break
        // An arm that failed once does not run again.
        if (arm.error) {
          this.#observer.skipped(secondsOf(task.schedule.run))
          continue
        }
        await this.#runOnce(task, raw, arm, round, { spec: specOf(arm), launch: launchOf(arm) })
        save()
      }
    }
    if (!this.#signal.aborted) {
      inspected = await this.#inspect(task, raw, { specOf, launchOf })
      save()
    }
    const analysed = this.#result.experiments[place]
    if (analysed) this.#observer.finished(analysed)
  }

  /**
   * Returns whether another round runs. With `--full` more rounds than planned run while the ratio
   * that matters is not precise enough.
   */
  #goesOn(round, { schedule, kinds }, analysed) {
    if (this.#signal.aborted) return false
    if (round <= schedule.rounds) return true
    const { precision } = this.#plan
    if (precision === undefined || round > schedule.rounds * MOST_TIMES) return false
    if (analysed === undefined || isPrecise(analysed, precision)) return false
    this.#observer.extended(kinds.length * secondsOf(schedule.run))
    return true
  }

  async #runOnce({ workload, schedule, kinds }, raw, arm, round, { spec, launch }) {
    const last = Math.max(round, schedule.rounds)
    const label = `${titleOf(raw)}, round ${round} of ${last}: ${arm.name}`
    this.#observer.step({ label, seconds: secondsOf(schedule.run) })
    try {
      const run = await this.#race(workload, kinds, spec, launch)
      arm.runs.push({ round, ...run })
      this.#observer.stepped(figureOf(run))
    } catch (error) {
      if (await this.#wasAborted()) return
      arm.error = { message: error.message, output: error.output ?? '' }
      this.#observer.stepped(`failed: ${error.message}`)
    }
  }

  /**
   * Returns the settings that win the heats, and records all of them. The tuned arm fails if none
   * runs.
   */
  async #chooseTuned(task, raw, settings) {
    const arm = raw.arms.find(({ name }) => name === task.roles.tuned)
    if (!arm || arm.error || this.#candidates.length === 0) return undefined
    const heats =
      this.#heats.get(task.heatWorkload) ??
      (await holdHeats(this.#candidates, this.#plan.heats, (candidate) =>
        this.#heat(task, settings, candidate)
      ))
    this.#heats.set(task.heatWorkload, heats)
    const [winner] = heats
    arm.settings = winner.settings
    if (winner.error) arm.error = { message: `every setting failed: ${winner.error}`, output: '' }
    raw.tuned = heats.map(({ env, ...told }) => ({ ...told, env: withoutFolders(env) }))
    return winner
  }

  async #heat({ experiment, heatWorkload, kinds, roles, schedule }, settings, candidate) {
    this.#signal.throwIfAborted()
    const place = { name: experiment.name, variant: heatWorkload.variant }
    const label = `${titleOf(place)}, heat for ${roles.tuned}: ${candidate.settings}`
    this.#observer.step({ label, seconds: secondsOf(schedule.heat) })
    try {
      const spec = this.#specOf(place, { name: roles.tuned }, settings, schedule.heat)
      const run = await this.#race(heatWorkload, kinds, spec, launchWith(candidate))
      this.#observer.stepped(figureOf(run))
      return perSecond(run)
    } catch (error) {
      if (!(await this.#wasAborted())) this.#observer.stepped(`failed: ${error.message}`)
      throw error
    }
  }

  /** Takes more tables from separate processes: their measurements would slow down the runs. */
  async #inspect({ workload, schedule }, raw, { specOf, launchOf }) {
    if (!workload.inspect) return []
    const arms = withoutControl(raw).arms.filter((arm) => !arm.error)
    this.#observer.step({
      label: `${titleOf(raw)}, evidence`,
      seconds: (workload.inspectSeconds ?? 0) * arms.length
    })
    try {
      const inspection = { specOf, launchOf, programs: this.#programs, signal: this.#signal }
      const tables = await workload.inspect(arms, { ...inspection, timing: schedule.run })
      this.#observer.stepped('taken')
      return tables
    } catch (error) {
      if (await this.#wasAborted()) return []
      raw.notes.push(`Evidence could not be taken: ${error.message}.`)
      this.#observer.stepped(`failed: ${error.message}`)
      return []
    }
  }

  #specOf({ name, variant }, arm, settings, timing) {
    const { heapMiB } = this.#plan
    return { experiment: name, variant, arm: arm.as ?? arm.name, settings, heapMiB, timing }
  }

  #race(workload, kinds, spec, launch) {
    return runArm({
      workload,
      kind: kinds.find(({ name }) => name === spec.arm),
      spec,
      launch,
      programs: this.#programs,
      signal: this.#signal
    })
  }

  async #wasAborted() {
    if (!this.#signal.aborted) await sleep(SIGNAL_GRACE_MS)
    return this.#signal.aborted
  }
}

/** Removes the control, which shows only the noise of the runs. */
function withoutControl(entry) {
  return { ...entry, arms: entry.arms.filter(({ role }) => role !== CONTROL) }
}

function kindOf({ kinds }, name) {
  return kinds.find((kind) => kind.name === name)
}

/** Keeps the names of the libraries, without the folders in which this machine has them. */
function withoutFolders(env) {
  const entries = Object.entries(env).map(([name, value]) => [name, path.basename(value)])
  return Object.fromEntries(entries)
}

function titleOf({ name, variant }) {
  return variant ? `${name} ${variant}` : name
}

/** Returns the requests or operations per second. */
function perSecond({ requestsPerSecond, nsPerOperation }) {
  return requestsPerSecond ?? NS_PER_SECOND / nsPerOperation
}

function figureOf({ requestsPerSecond, nsPerOperation }) {
  return requestsPerSecond === undefined
    ? `${count(nsPerOperation)} ns per operation`
    : `${count(requestsPerSecond)} req/s`
}

module.exports = { Comparison }
