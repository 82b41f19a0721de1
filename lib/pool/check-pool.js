'use strict'

const { isPool } = require('./buffer-pool')
const { InvalidArgType } = require('./errors')

/**
 * Rejects what is no pool of this copy of the library.
 *
 * @param {unknown} pool
 * @returns {asserts pool is import('./buffer-pool').BufferPool}
 */
function checkPool(pool) {
  if (!isPool(pool)) throw new InvalidArgType('pool', 'an instance of BufferPool', pool)
}

module.exports = { checkPool }
