'use strict'

/**
 * @typedef {object} Launch how to start the process of an arm
 * @property {string[]} flags of Node
 * @property {NodeJS.ProcessEnv} env
 */

/** Variables that tune V8 or the allocator. Every arm starts without them. */
const TUNING = /^(NODE_OPTIONS|LD_PRELOAD|GLIBC_TUNABLES|MALLOC_.*|MIMALLOC_.*|_RJEM_MALLOC_CONF)$/

/** Returns the environment without the settings that would silently tune all arms. */
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
 * @returns {Record<string, string>} the variables in it that tune V8 or the allocator
 */
function tuningOf(env) {
  return Object.fromEntries(Object.entries(env).filter(([name]) => TUNING.test(name)))
}

module.exports = { launchWith, tuningOf }
