'use strict'

const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { TUNED, BASELINE } = require('../arms')
const { analyse, describeInterval } = require('../analysis')
const { random, shuffled } = require('../random')
const { count } = require('../report/format')
const { SCHEMA } = require('../report/schema')
const { runArm } = require('./arm-run')
const { holdHeats } = require('./heats')
const { launchWith } = require('./launch')
const { describeRun } = require('./machine')
const { secondsOf, workloadSeconds } = require('./plan')

/**
 * Ctrl-C reaches the children as well: what looks like the failure of an arm may be that, and the
 * signal handler of this process may need a moment more.
 */
const SIGNAL_GRACE_MS = 50

/**
 * @typedef {object} Observer is told how it goes
 * @property {(total: { seconds: number, workloads: number, arms: number }) => void} planned
 * @property {(step: { label: string, seconds: number }) => void} step something starts
 * @property {(figure: string) => void} stepped it has ended
 * @property {(seconds: number) => void} skipped something planned will not happen
 * @property {(result: object) => void} changed the result holds more than before
 * @property {(experiment: object) => void} finished a table is complete
 */

/** Runs experiments, arm by arm, in interleaved rounds. */
class Comparison {
  #arms
  #plan
  #client
  #candidates
  #signal
  #observer
  #result

  /**
   * @param {object} options
   * @param {readonly { name: string, about: string }[]} options.arms
   * @param {import('./plan').Plan} options.plan
   * @param {string} options.client the load client's program
   * @param {import('./tuned').Settings[]} options.candidates for the tuned arm
   * @param {AbortSignal} options.signal ends everything
   * @param {Observer} options.observer
   */
  constructor({ arms, plan, client, candidates, signal, observer }) {
    this.#arms = arms
    this.#plan = plan
    this.#client = client
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
   * @returns {Promise<object>} the result in the shape of the JSON, also if it was ended early
   */
  async run(experiments) {
    const tasks = experiments.flatMap((experiment) =>
      experiment.workloads.map((workload) => ({ experiment, workload }))
    )
    const counts = { arms: this.#arms.length, candidates: this.#candidates.length }
    this.#observer.planned({
      seconds: tasks.length * workloadSeconds(this.#plan, counts),
      workloads: tasks.length,
      arms: this.#arms.length
    })
    for (const { experiment, workload } of tasks) {
      if (this.#signal.aborted) break
      await this.#runWorkload(experiment, workload)
    }
    this.#result.meta.finished = !this.#signal.aborted
    this.#observer.changed(this.#result)
    return this.#result
  }

  async #runWorkload(experiment, workload) {
    const raw = {
      name: experiment.name,
      variant: workload.variant,
      title: workload.title,
      question: experiment.question,
      baseline: BASELINE,
      tuned: [],
      arms: this.#arms.map(({ name, about }) => ({ name, about, runs: [] }))
    }
    const place = this.#result.experiments.length
    const tuned = await this.#chooseTuned(raw)
    const next = random(this.#plan.seed)
    for (let round = 1; round <= this.#plan.rounds; round++) {
      for (const arm of shuffled(raw.arms, next)) {
        if (this.#signal.aborted) break
        // What failed once is not waited for again.
        if (arm.error) {
          this.#observer.skipped(secondsOf(this.#plan.run))
          continue
        }
        await this.#runOnce(raw, arm, round, arm.name === TUNED ? tuned : undefined)
        this.#result.experiments[place] = analyse(raw)
        this.#observer.changed(this.#result)
      }
    }
    const analysed = this.#result.experiments[place]
    if (analysed) this.#observer.finished(analysed)
  }

  async #runOnce(raw, arm, round, settings) {
    const label = `${titleOf(raw)}, round ${round} of ${this.#plan.rounds}: ${arm.name}`
    this.#observer.step({ label, seconds: secondsOf(this.#plan.run) })
    try {
      const run = await this.#race(raw, arm.name, settings, this.#plan.run)
      arm.runs.push({ round, ...run })
      this.#observer.stepped(requestsPerSecond(run.requestsPerSecond))
    } catch (error) {
      if (await this.#wasAborted()) return
      arm.error = { message: error.message, output: error.output ?? '' }
      this.#observer.stepped(`failed: ${error.message}`)
    }
  }

  /** The settings that win the heats; notes all of them, and fails the tuned arm if none runs. */
  async #chooseTuned(raw) {
    const arm = raw.arms.find(({ name }) => name === TUNED)
    if (!arm) return undefined
    raw.tuned = await holdHeats(this.#candidates, this.#plan.heats, async (settings) => {
      this.#signal.throwIfAborted()
      const label = `${titleOf(raw)}, heat for ${TUNED}: ${settings.settings}`
      this.#observer.step({ label, seconds: secondsOf(this.#plan.heat) })
      try {
        const run = await this.#race(raw, TUNED, settings, this.#plan.heat)
        this.#observer.stepped(requestsPerSecond(run.requestsPerSecond))
        return run.requestsPerSecond
      } catch (error) {
        if (!(await this.#wasAborted())) this.#observer.stepped(`failed: ${error.message}`)
        throw error
      }
    })
    const [winner] = raw.tuned
    arm.settings = winner.settings
    if (winner.error) arm.error = { message: `every setting failed: ${winner.error}`, output: '' }
    raw.tuned = raw.tuned.map(({ env, ...told }) => ({ ...told, env: withoutFolders(env) }))
    return winner
  }

  #race(raw, arm, settings, timing) {
    return runArm({
      experiment: raw.name,
      variant: raw.variant,
      arm,
      launch: launchWith(settings),
      timing,
      client: this.#client,
      signal: this.#signal
    })
  }

  async #wasAborted() {
    if (!this.#signal.aborted) await sleep(SIGNAL_GRACE_MS)
    return this.#signal.aborted
  }
}

/** Names the libraries, but not the places where this machine has them. */
function withoutFolders(env) {
  const entries = Object.entries(env).map(([name, value]) => [name, path.basename(value)])
  return Object.fromEntries(entries)
}

function titleOf({ name, variant }) {
  return variant ? `${name} ${variant}` : name
}

function requestsPerSecond(figure) {
  return `${count(figure)} req/s`
}

module.exports = { Comparison }
