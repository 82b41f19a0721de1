'use strict'

/**
 * `fs.read` as a test wants it. To be loaded before cistern, which takes the function that it
 * finds.
 */

const fs = require('node:fs')

const { read } = fs

/** @type {(read: Function, args: any[]) => unknown} */
let current = callRead

fs.read = (...args) => current(read, args)

function callRead(read, args) {
  return read(...args)
}

/**
 * Replaces `fs.read` by `replacement` until the test is over.
 *
 * @param {import('node:test').TestContext} context
 * @param {(read: Function, args: any[]) => unknown} replacement
 */
function spyOnRead(context, replacement) {
  current = replacement
  context.after(() => {
    current = callRead
  })
}

module.exports = { spyOnRead }
