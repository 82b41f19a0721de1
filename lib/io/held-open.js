'use strict'

/**
 * How Node keeps a FileHandle open while something goes on with it: by a count of references, for which its class
 * has two methods without a public name. Its `close()` waits for the last of them.
 */

const { getOwnPropertySymbols, getPrototypeOf, hasOwn } = Object

/** @typedef {{ ref(): void, unref(): void }} References */

/**
 * A handle's references; `undefined` where it has none, or where other code has put a method of its own there, which
 * wants to be called.
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

module.exports = { referencesOf }
