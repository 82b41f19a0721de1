'use strict'

/** Checks the arguments of `cistern/io`: each once, here. */

const { InvalidArgType, OutOfRange } = require('../pool/errors')
const { checkOptions } = require('../pool/check-options')
const { checkPool } = require('../pool/check-pool')
const { hasMethods } = require('../runtime/has-methods')
const { checkSignal } = require('../pool/options')

/**
 * @param {string} name
 * @param {unknown} value
 * @param {number} min
 * @param {number} [max]
 * @returns {asserts value is number}
 */
function checkInteger(name, value, min, max = Number.MAX_SAFE_INTEGER) {
  if (typeof value !== 'number') throw new InvalidArgType(name, 'of type number', value)
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new OutOfRange(name, `an integer >= ${min} && <= ${max}`, value)
  }
}

/**
 * @param {unknown} start
 * @param {unknown} end inclusive
 */
function checkRange(start, end) {
  if (start !== undefined) checkInteger('options.start', start, 0)
  if (end === undefined || end === Infinity) return
  checkInteger('options.end', end, 0)
  if (start !== undefined && start > end) {
    throw new OutOfRange('options.start', `<= "options.end" (here: ${end})`, start)
  }
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {asserts value is number}
 */
function checkLimit(name, value) {
  if (value !== Infinity) checkInteger(name, value, 0)
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {asserts value is Function}
 */
function checkFunction(name, value) {
  if (typeof value !== 'function') throw new InvalidArgType(name, 'of type function', value)
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {asserts value is import('node:stream').Readable}
 */
function checkReadable(name, value) {
  if (!hasMethods(value, ['on', 'read', 'resume', 'removeListener'])) {
    throw new InvalidArgType(name, 'a stream.Readable', value)
  }
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {asserts value is import('node:stream').Writable}
 */
function checkWritable(name, value) {
  if (!hasMethods(value, ['on', 'write', 'end', 'removeListener'])) {
    throw new InvalidArgType(name, 'a stream.Writable', value)
  }
}

module.exports = {
  checkFunction,
  checkInteger,
  checkLimit,
  checkOptions,
  checkPool,
  checkRange,
  checkReadable,
  checkSignal,
  checkWritable
}
