'use strict'

/**
 * An arm is a way to get Buffers. Each runs in a process of its own.
 *
 * @typedef {object} ArmKind
 * @property {string} name
 * @property {string} about for the list of arms
 * @property {(options: object) => object} [open] returns an {@link OpenArm}, or the object that its
 *   experiment works with. It receives the workload and the experiment's settings; the common arms
 *   use `maxSize` only.
 * @property {(settings: object) => string | undefined} [missing] the reason why it can't run here,
 *   in words that complete "it is left out: …"
 * @property {(settings: object, workload: object) => string[]} [program] an arm that is a program
 *   of its own: the file and its arguments
 *
 * @typedef {object} OpenArm
 * @property {(size: number) => Buffer} take
 * @property {(buffer: Buffer) => void} give
 * @property {(response: import('node:http').ServerResponse, buffer: Buffer) => void} end sends a
 *   Buffer as the last part of a response, and gives it back when the response no longer needs it
 * @property {() => { allocBytes: number, inUseBytes: number }} [stats] since the start; without it
 *   V8's own figures count
 * @property {() => void} close
 *
 * @typedef {object} Roles the names of the arms that a reader compares
 * @property {string} baseline every ratio refers to it
 * @property {string} candidate runs the library with its defaults; the verdict is about it
 * @property {string} [tuned] runs with the settings that won the heats
 * @property {string} [unsafe] runs the library without its safe release
 * @property {string} [limit] no arm can be faster
 */

/** The arm that every ratio refers to. */
const BASELINE = 'v8-allocUnsafe'

/** The arm that runs with the settings that won the heats. */
const TUNED = 'v8-tuned'

/** The name of the settings that change nothing. */
const DEFAULTS = 'the defaults'

/** The arm that runs the library with its defaults. The verdict is about it. */
const CANDIDATE = 'pool-safe'

/** The arm that runs the library without its safe release. */
const UNSAFE = 'pool-reuse'

/** The arm that no other can beat. */
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
