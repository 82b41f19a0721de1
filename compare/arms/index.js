'use strict'

/**
 * An arm is a way to have Buffers. Each runs in a process of its own.
 *
 * @typedef {object} ArmKind
 * @property {string} name
 * @property {string} about for the list of arms
 * @property {(options: object) => object} [open] an {@link OpenArm}, or what its experiment works with;
 *   it gets the workload, of which the common arms use `maxSize`, and the experiment's settings
 * @property {(settings: object) => string | undefined} [missing] why it can't run here, in words that
 *   complete "it is left out: …"
 * @property {(settings: object, workload: object) => string[]} [program] an arm that is a program of its
 *   own: the file and its arguments
 *
 * @typedef {object} OpenArm
 * @property {(size: number) => Buffer} take
 * @property {(buffer: Buffer) => void} give
 * @property {(response: import('node:http').ServerResponse, buffer: Buffer) => void} end sends a Buffer
 *   as the last of a response, and gives it once that needs it no more
 * @property {() => { allocBytes: number, inUseBytes: number }} [stats] since the start; without it V8's
 *   own figures are taken
 * @property {() => void} close
 *
 * @typedef {object} Roles the names of the arms that a reader compares
 * @property {string} baseline every ratio refers to it
 * @property {string} candidate shows the library as it comes; the verdict is about it
 * @property {string} [tuned] runs with the settings which the heats have chosen
 * @property {string} [unsafe] shows what the library does without its safe release
 * @property {string} [limit] nothing can beat it
 */

/** The arm that every ratio refers to. */
const BASELINE = 'v8-allocUnsafe'

/** The arm that runs with the settings which the heats have chosen. */
const TUNED = 'v8-tuned'

/** What the settings are called that change nothing. */
const DEFAULTS = 'the defaults'

/** The arm that shows the library as it comes, and that the verdict is about. */
const CANDIDATE = 'pool-safe'

/** The arm that shows what the library does without its safe release. */
const UNSAFE = 'pool-reuse'

/** The arm that nothing can beat. */
const LIMIT = 'static'

/** @type {Readonly<Roles>} of the common arms */
const roles = {
  baseline: BASELINE,
  candidate: CANDIDATE,
  tuned: TUNED,
  unsafe: UNSAFE,
  limit: LIMIT
}

/** @type {readonly ArmKind[]} the common ones, in the order of the table */
const arms = [...require('./v8'), ...require('./pool'), require('./static')]

module.exports = { arms, roles, BASELINE, TUNED, CANDIDATE, DEFAULTS, LIMIT }
