'use strict'

/**
 * An arm is a way to have Buffers. Each runs in a process of its own.
 *
 * @typedef {object} ArmKind
 * @property {string} name
 * @property {string} about for the list of arms
 * @property {(options: { maxSize: number }) => OpenArm} open
 *
 * @typedef {object} OpenArm
 * @property {(size: number) => Buffer} take
 * @property {(buffer: Buffer) => void} give
 * @property {() => { allocBytes: number, inUseBytes: number }} [stats] since the start; without it V8's
 *   own figures are taken
 * @property {() => void} close
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

/** @type {readonly ArmKind[]} in the order of the table */
const arms = [...require('./v8'), ...require('./pool'), require('./static')]

/**
 * @param {string} name
 * @returns {ArmKind}
 */
function findArm(name) {
  const found = arms.find((arm) => arm.name === name)
  if (!found) throw new Error(`There is no arm '${name}'.`)
  return found
}

module.exports = { arms, findArm, BASELINE, TUNED, CANDIDATE, DEFAULTS, UNSAFE, LIMIT }
