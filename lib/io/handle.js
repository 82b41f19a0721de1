'use strict'

/**
 * The handle of a socket: libuv's part of it, which has the addresses of the memory that the kernel
 * reads from and writes to. Only native code knows when a handle is closed. Anyone can emit an
 * event.
 */

const { MessagePort } = require('node:worker_threads')
const { isNode } = require('../runtime/platform')
const { uncurry } = require('../runtime/intrinsics')

/**
 * The methods of every handle. A MessagePort is a handle, and the only one whose methods have
 * public names. They throw for anything else.
 */
const methods = isNode
  ? {
      ref: uncurry(MessagePort.prototype.ref),
      unref: uncurry(MessagePort.prototype.unref),
      hasRef: uncurry(/** @type {any} */ (MessagePort.prototype).hasRef)
    }
  : undefined

/**
 * Returns the handle of a socket; for an encrypted one, that of its connection. Returns `undefined`
 * where there is none that can be asked.
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
 * Returns whether a handle is open, or still being closed.
 *
 * @param {object} handle that `handleOf` gave
 */
function isOpen(handle) {
  const { hasRef, ref, unref } = /** @type {NonNullable<typeof methods>} */ (methods)
  if (hasRef(handle)) return true
  // An open handle may keep no event loop alive. A closed one can not be made to.
  ref(handle)
  if (!hasRef(handle)) return false
  unref(handle)
  return true
}

module.exports = { handleOf, isOpen }
