'use strict'

/**
 * The handle of a socket: libuv's end of it, which has the addresses of the memory that the kernel reads from and
 * writes to. Native code alone knows when it is closed. No event tells that, since anyone can emit one.
 */

const { MessagePort } = require('node:worker_threads')
const { isNode } = require('../runtime/platform')
const { uncurry } = require('../runtime/intrinsics')

/**
 * Of every handle: a MessagePort is one, and the only one whose methods have a public name. They throw for anything
 * else.
 */
const methods = isNode
  ? {
      ref: uncurry(MessagePort.prototype.ref),
      unref: uncurry(MessagePort.prototype.unref),
      hasRef: uncurry(/** @type {any} */ (MessagePort.prototype).hasRef)
    }
  : undefined

/**
 * The handle of a socket; of an encrypted one, that of its connection. `undefined` where there is none, or none that
 * can be asked.
 *
 * @param {any} socket
 * @returns {object | undefined}
 */
function handleOf(socket) {
  const handle = socket._handle
  if (!handle || methods === undefined) return undefined
  if (isHandle(handle)) return handle
  const parent = handle._parent
  return isHandle(parent) ? parent : undefined
}

/** @param {unknown} value */
function isHandle(value) {
  try {
    methods?.hasRef(value)
    return true
  } catch {
    return false
  }
}

/**
 * Whether a handle is open, or still being closed.
 *
 * @param {object} handle that `handleOf` gave
 */
function isOpen(handle) {
  const { hasRef, ref, unref } = /** @type {NonNullable<typeof methods>} */ (methods)
  if (hasRef(handle)) return true
  // One that is open may just keep no event loop alive. A closed one can't be told to.
  ref(handle)
  if (!hasRef(handle)) return false
  unref(handle)
  return true
}

module.exports = { handleOf, isOpen }
