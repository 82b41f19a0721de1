'use strict'

const { UsageError } = require('../usage-error')

/**
 * @typedef {object} Experiment
 * @property {string} name as on the command line
 * @property {string} question that the experiment answers
 * @property {readonly import('../arms').ArmKind[]} arms in the order of the table
 * @property {import('../arms').Roles} roles
 * @property {Workload[]} workloads
 * @property {string} [headline] the variant that stands for it where there is room for one; by default the first
 * @property {(runner: Runner) => Promise<Prepared>} [prepare] makes what all arms share; called by the
 *   runner once, before the first workload
 *
 * @property {(signal: AbortSignal) => Promise<string | undefined>} [tryOut] tries its arms before anything is
 *   measured, and resolves to what is worth knowing; rejects with a `RunError` where it is not fit to be measured
 *
 * @typedef {object} Runner what an experiment may use of it
 * @property {{ load: string, upstream: string, probe?: string }} programs of `client/`
 * @property {AbortSignal} signal
 *
 * @typedef {object} Prepared
 * @property {object} settings that each process gets, as JSON
 * @property {() => unknown} close takes it all away again
 *
 * @typedef {HttpWorkload | LoopWorkload} Workload one table of the report
 *
 * @typedef {object} AnyWorkload
 * @property {string} [variant] tells the workloads of one experiment apart
 * @property {string} title what is done
 * @property {readonly import('../arms').ArmKind[]} [arms] where not those of the experiment
 * @property {import('../arms').Roles} [roles] the same
 * @property {number} [maxSize] of a single Buffer, in bytes
 * @property {string} [throughput] what is counted as bytes per second, where not Buffers that were used
 * @property {boolean} [fullOnly] only with `--full`
 * @property {{ usual?: Partial<Pace>, full?: Partial<Pace> }} [pace] where not the plan's own
 * @property {string} [heatsOf] the variant whose heats have chosen for this one, too
 * @property {(subject: { arm: object, settings: object }) => object} setUp makes the state
 * @property {(state: object) => void | Promise<void>} tearDown
 * @property {(state: object) => object} [figures] more of a run, told when its window is closed
 * @property {(entries: object[]) => object[]} [evidence] more tables, from the raw entries of the
 *   experiment so far, this one last
 * @property {(arms: object[], inspection: object) => Promise<object[]>} [inspect] more tables, from
 *   processes of their own after the last round
 *
 * @typedef {object} Http serves requests, over real HTTP
 * @property {'request'} unit
 * @property {number} [connections] where not the plan's own
 * @property {boolean} [waits] the server waits for others by nature, so that it need not fill a core
 * @property {number[]} [sizes] of the bodies that the client asks for: `GET /N`
 * @property {number} [replyBytes] where all bodies have this length: requests are then counted by the
 *   bytes that came, since few large replies begin and end within a window
 * @property {(state: object, request: import('node:http').IncomingMessage,
 *   response: import('node:http').ServerResponse) => number | Promise<number>} serve
 *   the bytes of Buffers that it took, once it is done; what it throws is answered with status 500
 * @typedef {AnyWorkload & Http} HttpWorkload
 *
 * @typedef {object} Loop is done again and again, without a client
 * @property {'operation'} unit
 * @property {number} [turnOperations] operations in a turn of the event loop
 * @property {(state: object, count: number) => number | Promise<number>} run so many operations; the bytes
 *   of Buffers used
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
