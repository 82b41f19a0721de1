'use strict'

/**
 * What this runtime can do, and its functions as they were when cistern was loaded: code that
 * changes a prototype later must not come between a block and its owner.
 */

const { isMainThread } = require('node:worker_threads')

const { apply } = Reflect
const { bind, call } = Function.prototype

/**
 * A method as a function that takes `this` first.
 *
 * @param {Function} method
 * @returns {(self: unknown, ...args: any[]) => any}
 */
const uncurry = (method) => apply(bind, call, [method])

/**
 * The class of every Buffer, so that a view made with it has the same V8 map as any other.
 * `Buffer.from(arrayBuffer, 0, length)` makes the same, in twice the time.
 *
 * @type {new (arrayBuffer: ArrayBuffer, byteOffset: number, length: number) => Buffer<ArrayBuffer>}
 */
const FastBuffer = /** @type {any} */ (Buffer)[Symbol.species]

/**
 * `ArrayBuffer.prototype.transfer`, which Node 20 has not: moves the memory, and its finalizer,
 * to a new ArrayBuffer and leaves every view of the old one without length.
 *
 * @type {((arrayBuffer: ArrayBuffer, length?: number) => ArrayBuffer) | undefined}
 */
const transfer =
  'transfer' in ArrayBuffer.prototype
    ? uncurry(/** @type {Function} */ (ArrayBuffer.prototype.transfer))
    : undefined

/** Whether Node was told to hand out no memory that is not zero-filled. */
const zeroFill = asksForZeroFill()

function asksForZeroFill() {
  const words = [...process.execArgv, ...(process.env.NODE_OPTIONS ?? '').split(/\s+/)]
  // A worker may have been given words of its own; Node's flag is the process's.
  if (!isMainThread) words.push(...process.argv)
  return words.some((word) => word.replaceAll('_', '-') === '--zero-fill-buffers')
}

module.exports = { FastBuffer, transfer, zeroFill }
