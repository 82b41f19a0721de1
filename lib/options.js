'use strict'

/** A pool's options: each checked once, here. */

const { InvalidArgType, InvalidArgValue, NotImplemented, OutOfRange } = require('./errors')
const { maxBlockSize: largest } = require('./size-class')

const MIB = 1024 * 1024

/** What an option is where it is not given. */
const DEFAULTS = Object.freeze({
  name: 'pool',
  maxBlockSize: 32 * MIB,
  detachOnRelease: true,
  zeroOnRelease: false
})

/** Options that a later version brings. */
const PLANNED = ['maxBytes', 'onExhausted', 'idleTimeout', 'leakSampleRate']

/** @type {Record<keyof typeof DEFAULTS, (name: string, value: unknown) => void>} */
const CHECKS = {
  name: checkString,
  maxBlockSize(name, value) {
    if (typeof value !== 'number') throw new InvalidArgType(name, 'a number', value)
    if (!Number.isInteger(value) || value < 1 || value > largest) {
      throw new OutOfRange(name, `an integer >= 1 && <= ${largest}`, value)
    }
  },
  detachOnRelease: checkBoolean,
  zeroOnRelease: checkBoolean
}

/**
 * The options given, completed with the defaults.
 *
 * @param {unknown} given
 * @returns {typeof DEFAULTS}
 */
function completeOptions(given = {}) {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new InvalidArgType('options', 'an object', given)
  }
  /** @type {Record<string, unknown>} */
  const options = { ...DEFAULTS }
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue
    if (PLANNED.includes(name)) throw new NotImplemented(`The option '${name}'`)
    if (!Object.hasOwn(CHECKS, name)) {
      const known = Object.keys(CHECKS).join(', ')
      throw new InvalidArgValue(`options.${name}`, `is no option; there are ${known}`, value)
    }
    CHECKS[/** @type {keyof typeof DEFAULTS} */ (name)](`options.${name}`, value)
    options[name] = value
  }
  return /** @type {typeof DEFAULTS} */ (options)
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function checkString(name, value) {
  if (typeof value !== 'string') throw new InvalidArgType(name, 'a string', value)
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function checkBoolean(name, value) {
  if (typeof value !== 'boolean') throw new InvalidArgType(name, 'a boolean', value)
}

module.exports = { checkBoolean, completeOptions }
