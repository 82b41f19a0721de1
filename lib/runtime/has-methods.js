'use strict'

/**
 * Tells whether a value has methods of all these names.
 *
 * @param {any} value
 * @param {string[]} names
 */
function hasMethods(value, names) {
  return names.every((name) => typeof value?.[name] === 'function')
}

module.exports = { hasMethods }
