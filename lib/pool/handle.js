'use strict'

/** Handles: plain objects by which another thread of the process finds a pool. */

const { InvalidArgType, InvalidHandle } = require('./errors')

/** The `type` of every handle. */
const HANDLE_TYPE = 'cistern.pool'

/**
 * Makes a handle.
 *
 * @param {string} name the pool's
 * @param {string} key the pool's
 * @returns {import('../..').PoolHandle}
 */
function handleOf(name, key) {
  return Object.freeze({ type: HANDLE_TYPE, name, key })
}

/**
 * Returns the key of a handle in lower case, as pools spell theirs.
 *
 * @param {unknown} handle
 */
function keyOf(handle) {
  if (typeof handle !== 'object' || handle === null) {
    throw new InvalidArgType('handle', 'the handle of a pool', handle)
  }
  const { type, key } = /** @type {Record<string, unknown>} */ (handle)
  if (type !== HANDLE_TYPE || typeof key !== 'string') {
    throw new InvalidHandle('it is no handle', handle)
  }
  return key.toLowerCase()
}

module.exports = { handleOf, keyOf }
