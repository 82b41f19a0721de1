'use strict'

/**
 * @typedef {object} Launch how the process of an arm is started
 * @property {string[]} flags of Node
 * @property {NodeJS.ProcessEnv} env
 */

/** Variables that tune V8 or the allocator: every arm starts from the same, which is none. */
const TUNING = /^(NODE_OPTIONS|LD_PRELOAD|GLIBC_TUNABLES|MALLOC_.*|MIMALLOC_.*|_RJEM_MALLOC_CONF)$/

/** The environment without settings that would tune all arms in secret. */
function plainEnvironment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !TUNING.test(name)))
}

/**
 * @param {{ flags?: string[], env?: Record<string, string> }} [settings] on top of the defaults
 * @returns {Launch}
 */
function launchWith({ flags = [], env = {} } = {}) {
  return { flags, env: { ...plainEnvironment(), ...env } }
}

/**
 * @param {NodeJS.ProcessEnv} env of a launch
 * @returns {Record<string, string>} what of it tunes V8 or the allocator
 */
function tuningOf(env) {
  return Object.fromEntries(Object.entries(env).filter(([name]) => TUNING.test(name)))
}

module.exports = { launchWith, tuningOf }
