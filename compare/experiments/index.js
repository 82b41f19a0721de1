'use strict'

const { UsageError } = require('../usage-error')

/**
 * @typedef {object} Experiment
 * @property {string} name as on the command line
 * @property {string} question that the experiment answers
 * @property {readonly import('../arms').ArmKind[]} arms in the order of the table
 * @property {import('../arms').Roles} roles
 * @property {Workload[]} workloads
 * @property {string} [headline] the variant that represents it where only one fits; by default the
 *   first
 * @property {(runner: Runner) => Promise<Prepared>} [prepare] makes what all arms share; the runner
 *   calls it once, before the first workload
 * @property {(signal: AbortSignal) => Promise<string | undefined>} [tryOut] tries its arms before
 *   any measurement, and resolves to a note for the user; rejects with a `RunError` if it can't be
 *   measured
 *
 * @typedef {object} Runner the parts of the runner that an experiment may use
 * @property {{ load: string, upstream: string, probe?: string }} programs of `client/`
 * @property {AbortSignal} signal
 *
 * @typedef {object} Prepared
 * @property {object} settings that each process gets, as JSON
 * @property {() => unknown} close removes what was prepared
 *
 * @typedef {HttpWorkload | LoopWorkload} Workload one table of the report
 *
 * @typedef {object} AnyWorkload
 * @property {string} [variant] distinguishes the workloads of one experiment
 * @property {string} title the work in words
 * @property {readonly import('../arms').ArmKind[]} [arms] if they are not those of the experiment
 * @property {import('../arms').Roles} [roles] the same
 * @property {number} [maxSize] of a single Buffer, in bytes
 * @property {string} [throughput] the bytes that bytes per second counts, if not those of the
 *   Buffers
 * @property {boolean} [fullOnly] only with `--full`
 * @property {{ usual?: Partial<Pace>, full?: Partial<Pace> }} [pace] if it is not the plan's
 * @property {string} [heatsOf] the variant whose heats choose the settings for this one too
 * @property {(subject: { arm: object, settings: object }) => object} setUp makes the state
 * @property {(state: object) => void | Promise<void>} tearDown
 * @property {(state: object) => object} [figures] more figures of a run, after its window
 * @property {(entries: object[]) => object[]} [evidence] more tables, from the raw entries of the
 *   experiment so far, this one last
 * @property {(arms: object[], inspection: object) => Promise<object[]>} [inspect] more tables, from
 *   processes of their own after the last round
 *
 * @typedef {object} Http serves requests, over real HTTP
 * @property {'request'} unit
 * @property {number} [connections] if it is not the plan's
 * @property {boolean} [waits] true if the server waits for other processes, so it need not fill a
 *   core
 * @property {number[]} [sizes] of the bodies that the client requests: `GET /N`
 * @property {number} [replyBytes] the length of all bodies, if requests count by the bytes that
 *   arrived: few large replies begin and end within a window
 * @property {(state: object, request: import('node:http').IncomingMessage, response:
 *   import('node:http').ServerResponse) => number | Promise<number>} serve resolves to the bytes of
 *   the Buffers that it used; an error becomes a reply with status 500
 * @typedef {AnyWorkload & Http} HttpWorkload
 *
 * @typedef {object} Loop runs in a loop, without a client
 * @property {'operation'} unit
 * @property {number} [turnOperations] operations per event-loop turn
 * @property {(state: object, count: number) => number | Promise<number>} run does `count`
 *   operations and returns the bytes of the Buffers that it used
 * @typedef {AnyWorkload & Loop} LoopWorkload
 *
 * @typedef {object} Pace
 * @property {number} rounds
 * @property {number} warmupSeconds
 * @property {number} durationSeconds
 */

/** @type {readonly Experiment[]} in the order in which they run */
const experiments = [
  require('./http-buffers'),
  require('./file-serving'),
  require('./byte-buffer'),
  require('./proxy')
]

/**
 * @param {string} name
 * @returns {Experiment}
 * @throws {UsageError}
 */
function findExperiment(name) {
  const found = experiments.find((experiment) => experiment.name === name)
  if (found) return found
  const names = experiments.map((experiment) => experiment.name).join(', ')
  throw new UsageError(`The experiment '${name}' is unknown. There are: ${names}.`)
}

module.exports = { experiments, findExperiment }
