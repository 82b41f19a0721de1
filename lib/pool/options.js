'use strict'

/** Checks a pool's options and completes them. */

const { checkOptions } = require('./check-options')
const { InvalidArgType, InvalidArgValue, OutOfRange } = require('./errors')
const native = require('../runtime/native')
const { maxBlockSize: largest } = require('../cache/size-class')

const MIB = 1024 * 1024

/**
 * The values of options that are not given. `Config::default` in `src/pool/config.rs` repeats them
 * for Rust's tests.
 */
const DEFAULTS = Object.freeze({
  name: 'pool',
  maxBytes: Math.floor(native.memoryLimit() / 4),
  maxBlockSize: 32 * MIB,
  onExhausted: /** @type {'unpooled' | 'throw'} */ ('unpooled'),
  detachOnRelease: true,
  zeroOnRelease: false,
  idleTimeout: 10_000,
  leakSampleRate: 1 / 128
})

/** @type {Record<keyof typeof DEFAULTS, (name: string, value: unknown) => void>} */
const CHECKS = {
  name: checkString,
  maxBytes(name, value) {
    checkNumber(name, value)
    const isWhole = Number.isInteger(value) || value === Infinity
    if (!isWhole || value < 1) throw new OutOfRange(name, 'an integer >= 1, or Infinity', value)
  },
  maxBlockSize(name, value) {
    checkNumber(name, value)
    if (!Number.isInteger(value) || value < 1 || value > largest) {
      throw new OutOfRange(name, `an integer >= 1 && <= ${largest}`, value)
    }
  },
  onExhausted(name, value) {
    if (value !== 'unpooled' && value !== 'throw') {
      throw new InvalidArgValue(name, "must be one of: 'unpooled', 'throw'", value)
    }
  },
  detachOnRelease: checkBoolean,
  zeroOnRelease: checkBoolean,
  idleTimeout(name, value) {
    checkNumber(name, value)
    if (!(value >= 0)) throw new OutOfRange(name, '>= 0, or Infinity', value)
  },
  leakSampleRate(name, value) {
    checkNumber(name, value)
    if (!(value >= 0 && value <= 1)) throw new OutOfRange(name, '>= 0 && <= 1', value)
  }
}

/**
 * Completes the given options with the defaults.
 *
 * @param {unknown} given
 * @returns {typeof DEFAULTS}
 */
function completeOptions(given = {}) {
  checkOptions(given, Object.keys(CHECKS))
  /** @type {Record<string, unknown>} */
  const options = { ...DEFAULTS }
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue
    CHECKS[/** @type {keyof typeof DEFAULTS} */ (name)](`options.${name}`, value)
    options[name] = value
  }
  return /** @type {typeof DEFAULTS} */ (options)
}

/**
 * Returns the options as the core expects them.
 *
 * @param {unknown} given
 * @returns {import('../runtime/native').Settings}
 */
function toSettings(given) {
  const { onExhausted, ...settings } = completeOptions(given)
  return { ...settings, throwsWhenExhausted: onExhausted === 'throw' }
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
 * @returns {asserts value is number}
 */
function checkNumber(name, value) {
  if (typeof value !== 'number') throw new InvalidArgType(name, 'a number', value)
}

/**
 * @param {string} name
 * @param {unknown} value
 */
function checkBoolean(name, value) {
  if (typeof value !== 'boolean') throw new InvalidArgType(name, 'a boolean', value)
}

/**
 * @param {unknown} signal an AbortSignal, or `undefined`
 * @returns {asserts signal is AbortSignal | undefined}
 */
function checkSignal(signal) {
  if (signal !== undefined && !isSignal(signal)) {
    throw new InvalidArgType('options.signal', 'an instance of AbortSignal', signal)
  }
}

/** @param {unknown} signal */
function isSignal(signal) {
  if (typeof signal !== 'object' || signal === null || !('aborted' in signal)) return false
  const { addEventListener, removeEventListener } = /** @type {AbortSignal} */ (signal)
  return typeof addEventListener === 'function' && typeof removeEventListener === 'function'
}

module.exports = { checkBoolean, checkSignal, toSettings }
