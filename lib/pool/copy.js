'use strict'

/**
 * Tells copies of this library apart, for error messages. A process may have several: two installed
 * ones, or one that was loaded again after the module cache was emptied. Each has classes of its
 * own, and accepts no pool of another.
 *
 * Each copy marks its pools. Other code can put the mark on anything, so only messages rely on it.
 */

const path = require('node:path')
const { isProxy } = require('node:util').types

const { defineProperty, freeze, getOwnPropertyDescriptor, getPrototypeOf } = Object

/** The name of the mark, the same in every copy. */
const MARK = Symbol.for('cistern.copy')

/** The folder of this copy. A bundle that is an ES module has no `__dirname`. */
const folder = typeof __dirname === 'string' ? path.dirname(path.dirname(__dirname)) : 'a bundle'

/** This copy's mark. An object: the same files may be loaded twice. */
const here = freeze({ __proto__: null, folder })

/**
 * Marks a class as this copy's.
 *
 * @param {Function} Class
 */
function markAsOurs(Class) {
  defineProperty(Class.prototype, MARK, /** @type {any} */ ({ __proto__: null, value: here }))
}

/**
 * Describes the other copy that a value belongs to; returns `undefined` if there is none. Runs no
 * other code.
 *
 * @param {unknown} value
 */
function describeOtherCopy(value) {
  const mark = markOf(value)
  if (mark === undefined || mark === here) return undefined
  const from = dataOf(mark, 'folder')
  if (typeof from !== 'string') return undefined
  if (from === folder) {
    return (
      `of cistern as it was loaded before, or again, from '${folder}': ` +
      'the cache of modules was emptied in between'
    )
  }
  return `of another copy of cistern, loaded from '${from}'; this one is loaded from '${folder}'`
}

/**
 * Returns the mark of a value, its own or an inherited one.
 *
 * @param {unknown} value
 */
function markOf(value) {
  if (typeof value !== 'object') return undefined
  for (let object = value; object !== null; object = getPrototypeOf(object)) {
    if (isProxy(object)) return undefined
    const mark = dataOf(object, MARK)
    if (mark !== undefined) return mark
  }
  return undefined
}

/**
 * Returns the value of an own property, unless it is a getter.
 *
 * @param {unknown} object
 * @param {PropertyKey} key
 */
function dataOf(object, key) {
  if (typeof object !== 'object' || object === null || isProxy(object)) return undefined
  return getOwnPropertyDescriptor(object, key)?.value
}

module.exports = { describeOtherCopy, markAsOurs }
