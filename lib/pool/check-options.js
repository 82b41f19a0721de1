'use strict'

const { InvalidArgType, InvalidArgValue } = require('./errors')

/**
 * Rejects options that are no object or have an unknown name. A mistyped name would be a limit that
 * does not hold.
 *
 * @param {unknown} options
 * @param {string[]} known names
 * @returns {asserts options is Record<string, unknown>}
 */
function checkOptions(options, known) {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new InvalidArgType('options', 'an object', options)
  }
  for (const name in options) {
    if (known.includes(name) || !Object.hasOwn(options, name)) continue
    const value = /** @type {Record<string, unknown>} */ (options)[name]
    if (value === undefined) continue
    const reason = `is no option; there ${known.length > 1 ? 'are' : 'is'} ${known.join(', ')}`
    throw new InvalidArgValue(`options.${name}`, reason, value)
  }
}

module.exports = { checkOptions }
