'use strict'

/** Tells apart the kinds of a file that Node accepts: a path, or a FileHandle. */

const { isUint8Array } = require('node:util').types

const { getOwnPropertySymbols, getPrototypeOf, hasOwn } = Object

/**
 * @typedef {import('node:fs').PathLike} PathLike
 * @typedef {import('node:fs/promises').FileHandle} FileHandle
 * @typedef {{ ref(): void, unref(): void }} References
 */

/**
 * Returns whether a value is a FileHandle of `node:fs/promises`. Its class has no public name.
 *
 * @param {any} value
 * @returns {value is FileHandle}
 */
function isFileHandle(value) {
  return typeof value?.fd === 'number' && isMethod(value.read) && isMethod(value.datasync)
}

/**
 * Returns whether Node takes a value for a URL. Node asks no class either: other realms, and jsdom,
 * have their own.
 *
 * @param {any} value
 * @returns {value is URL}
 */
function isUrl(value) {
  return Boolean(
    value?.href && value.protocol && value.auth === undefined && value.path === undefined
  )
}

/** @param {unknown} value */
const isMethod = (value) => typeof value === 'function'

/**
 * @param {unknown} value
 * @returns {value is PathLike | FileHandle}
 */
function isPath(value) {
  if (typeof value === 'string' || isUint8Array(value) || isUrl(value)) return true
  return isFileHandle(value)
}

/**
 * Returns the references that keep a FileHandle open: its `close()` waits for the last of them.
 * Node's class has two methods for that, without public names.
 *
 * Returns `undefined` where the handle has none. So it does where other code has put its own `read`
 * on the handle, which has to be called.
 *
 * @param {any} handle
 * @returns {References | undefined}
 */
function referencesOf(handle) {
  if (hasOwn(handle, 'read')) return undefined
  const symbols = getOwnPropertySymbols(getPrototypeOf(handle) ?? {})
  const [ref, unref] = ['kRef', 'kUnref'].map((name) =>
    symbols.find(({ description }) => description === name)
  )
  if (ref === undefined || unref === undefined) return undefined
  return { ref: () => handle[ref](), unref: () => handle[unref]() }
}

module.exports = { isFileHandle, isPath, referencesOf }
