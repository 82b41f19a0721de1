'use strict'

/** Shared by the tests of posted Buffers: tasks for the receiving thread, and checks of a block. */

const { after } = require('node:test')
const { eventually } = require('./helpers')
const { Thread } = require('./thread')

const NOT_POOLED = { name: 'TypeError', code: 'ERR_CISTERN_NOT_POOLED' }

/** @type {Set<Thread>} */
const threads = new Set()

/**
 * Starts a thread that ends with this file, if not before.
 *
 * @param {BufferPool} [pool] that it attaches to
 */
function startThread(pool) {
  const thread = new Thread(pool?.handle)
  threads.add(thread)
  return thread
}

after(() => Promise.all([...threads].map((thread) => thread.terminate())))

/** A task: leases, fills, and answers with the Buffer itself. */
const lend = ({ pool, transfer }, { size, byte }) => {
  const buffer = pool.allocUnsafe(size).fill(byte)
  transfer.push(buffer.buffer)
  return buffer
}

/** A task: stores the value that it is sent. */
const keep = (self, buffer) => {
  self.kept = buffer
}

/** A task: returns true if every byte of it is `byte`. */
const holds = ({ kept }, byte) => kept.length > 0 && kept.every((each) => each === byte)

/**
 * Wraps a received value in an object: a suspended async function keeps the values alive that it
 * has seen.
 *
 * @template T
 * @param {Promise<T>} received
 * @returns {Promise<{ it: T | undefined }>}
 */
function held(received) {
  return received.then((it) => ({ it }))
}

/**
 * Waits until nothing is leased: where V8 has the memory, only the totals change.
 *
 * @param {BufferPool} pool
 */
function closed(pool) {
  return eventually(() => pool.stats().inUseCount === 0, 'nothing is in use')
}

/**
 * Returns true if every byte that is held is `byte`.
 *
 * @param {{ it: Uint8Array }} held
 * @param {number} byte
 */
function isAll({ it }, byte) {
  return it.length > 0 && it.every((each) => each === byte)
}

/**
 * Leases as many blocks of a size as the pool allows, overwrites them and releases them.
 *
 * @param {BufferPool} pool
 * @param {number} size
 */
function overwrite(pool, size, count = 20) {
  const buffers = Array.from({ length: count }, () => pool.allocUnsafe(size).fill(0xee))
  for (const buffer of buffers) pool.release(buffer)
}

module.exports = { NOT_POOLED, closed, held, holds, isAll, keep, lend, overwrite, startThread }
