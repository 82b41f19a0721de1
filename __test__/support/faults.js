'use strict'

/**
 * Tools for the children of `faults.test.js`: faults, and the assertions that must hold in spite of
 * them.
 */

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const { BufferPool, shared } = require('../..')
const io = require('../../lib/io')
const {
  balanced,
  collectUntil,
  endsShow,
  eventually,
  external,
  openFiles,
  posts,
  settle
} = require('./helpers')

const PAGE = 4096

/** Bytes of addresses that this process has. */
function addresses() {
  return Number(fs.readFileSync('/proc/self/statm', 'utf8').split(' ')[0]) * PAGE
}

/** @param {number | 'unlimited'} bytes the most that it may have */
function setLimit(bytes) {
  execFileSync('prlimit', ['--pid', String(process.pid), `--as=${bytes}:`])
}

/**
 * Makes the operating system refuse more than `room` further bytes from now on.
 *
 * @param {number} room
 */
async function leave(room) {
  // Makes libuv start its threads now: it aborts the process if it can't.
  await fs.promises.stat('.')
  // Memory that V8 gives back now cannot be given back when memory is short.
  for (let i = 0; i < 3; i++) globalThis.gc()
  setLimit(addresses() + room)
}

/** Lifts the limit: the operating system has memory again. */
function lift() {
  setLimit('unlimited')
}

let faults = 0

/**
 * Makes `faults.c` refuse calls, counted from now on.
 *
 * @param {string} name of the function
 * @param {number} first
 * @param {number} [last]
 * @param {string | number} [way] how; of `mmap`: the size
 */
function refuse(name, first, last = first, way = 'before') {
  delete process.env.FAULTED
  process.env.FAULT = `${name} ${first} ${last} ${way} ${++faults}`
}

/** Stops all refusals. Returns true if there was one. */
function allow() {
  delete process.env.FAULT
  return process.env.FAULTED !== undefined
}

/** Between two places that are looked at, in bytes. */
const STRIDE = 1009

/** Writes a mark of its own into each of these Buffers. */
function mark(buffers) {
  for (const [i, buffer] of buffers.entries()) {
    for (let at = 0; at + 2 <= buffer.length; at += STRIDE) buffer.writeUInt16LE(i + 1, at)
  }
}

/**
 * Asserts that all of them still have their mark, and so that no two are the same memory. Takes no
 * memory.
 */
function assertMarks(buffers) {
  for (const [i, buffer] of buffers.entries()) {
    assert.ok(buffer.length >= 2)
    for (let at = 0; at + 2 <= buffer.length; at += STRIDE) {
      if (buffer.readUInt16LE(at) !== i + 1) assert.fail(`Buffer ${i} is also another's`)
    }
  }
}

/**
 * Returns the results of these calls, made one after the other, and the errors of those that throw
 * or reject.
 *
 * @template Result
 * @param {number} count
 * @param {(i: number) => Result | Promise<Result>} call
 */
async function tryEach(count, call) {
  /** @type {Awaited<Result>[]} */
  const got = []
  const errors = []
  for (let i = 0; i < count; i++) {
    try {
      got.push(await call(i))
    } catch (error) {
      errors.push(error)
    }
  }
  return { got, errors }
}

/**
 * Asserts that a pool has nothing leased, and that it gives back all of its memory.
 *
 * @param {BufferPool} pool
 * @param {{ afterEnds?: boolean }} [options] `afterEnds`: of threads that had something leased
 */
async function assertWhole(pool, { afterEnds = false } = {}) {
  await eventually(() => pool.stats().inUseCount === 0, 'nothing is leased')
  // A lease that no code has seen ends when it is collected.
  await eventually(() => {
    pool.trim()
    return pool.stats().idleBytes === 0
  }, 'nothing is idle')
  const stats = await balanced(pool)
  assert.equal(stats.freedBytes + stats.quarantinedBytes, stats.freshBytes)
  if (endsShow || !afterEnds) assert.equal(stats.quarantinedBytes, 0)
  return stats
}

module.exports = {
  BufferPool,
  allow,
  assert,
  assertMarks,
  assertWhole,
  balanced,
  collectUntil,
  eventually,
  external,
  io,
  shared,
  leave,
  lift,
  mark,
  openFiles,
  posts,
  refuse,
  settle,
  tryEach
}
