'use strict'

/**
 * Tells copies of this library apart. A process may have several: two that are installed, or one that was loaded
 * again after the cache of modules had been emptied. Each has classes of its own, and takes no other's pools.
 *
 * The mark serves messages alone: other code can put it on anything.
 */

const path = require('node:path')
const { isProxy } = require('node:util').types

const { defineProperty, freeze, getOwnPropertyDescriptor, getPrototypeOf } = Object

/** Every copy's name for its mark. */
const MARK = Symbol.for('cistern.copy')

/** Where this one is loaded from; a bundle that is an ES module has no such name. */
const folder = typeof __dirname === 'string' ? path.dirname(path.dirname(__dirname)) : 'a bundle'

/** This copy's: an object, since the same files may be loaded twice. */
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
 * Says which other copy a value is of; `undefined` of none. Runs no other code.
 *
 * @param {unknown} value
 */
function describeOtherCopy(value) {
  const mark = markOf(value)
  if (mark === undefined || mark === here) return undefined
  const from = dataOf(mark, 'folder')
  if (typeof from !== 'string') return undefined
  if (from === folder) {
    return `of cistern as it was loaded before, or again, from '${folder}': the cache of modules was emptied in between`
  }
  return `of another copy of cistern, loaded from '${from}'; this one is loaded from '${folder}'`
}

/** @param {unknown} value */
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
 * An own property, unless it is a getter.
 *
 * @param {unknown} object
 * @param {PropertyKey} key
 */
function dataOf(object, key) {
  if (typeof object !== 'object' || object === null || isProxy(object)) return undefined
  return getOwnPropertyDescriptor(object, key)?.value
}

module.exports = { describeOtherCopy, markAsOurs }
