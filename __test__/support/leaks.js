'use strict'

/**
 * Shared by the tests of leaked leases: a subscriber of `cistern:leak`, and one function for each
 * way to lease.
 */

const assert = require('node:assert/strict')
const diagnostics = require('node:diagnostics_channel')
const path = require('node:path')
const { after, beforeEach } = require('node:test')
const { eventually, settle } = require('./helpers')

const SIZE = 1000
const BLOCK_SIZE = 1024

const LIB = path.join(__dirname, '..', '..', 'lib') + path.sep

/** @type {import('../..').LeakMessage[]} the reports in this thread since the test began */
const told = []

const tell = (message) => told.push(message)
diagnostics.subscribe('cistern:leak', tell)
after(() => diagnostics.unsubscribe('cistern:leak', tell))

beforeEach(() => told.splice(0))

/**
 * Waits until `count` of a pool's leases are collected, and `cistern:leak` has reported them.
 *
 * @param {BufferPool} pool
 * @param {number} count in all
 */
async function collected(pool, count) {
  await eventually(() => pool.stats().collectedCount >= count, `${count} are collected`)
  assert.equal(pool.stats().collectedCount, count)
  await settle()
}

/**
 * Asserts that one new leak is reported once. It also shows a report of an earlier test that comes
 * late.
 *
 * @param {BufferPool} pool whose leases are all sampled
 */
async function tellsOfOne(pool) {
  const before = told.length
  const { collectedCount } = pool.stats()
  ;(function leakToBeTold() {
    pool.allocUnsafe(SIZE)
  })()
  await collected(pool, collectedCount + 1)
  await eventually(() => told.length > before, 'it is told')
  const since = told.splice(before)
  assert.equal(since.length, 1)
  assert.match(since[0].stack, /leakToBeTold/)
}

module.exports = { BLOCK_SIZE, LIB, SIZE, collected, tellsOfOne, told }
