'use strict'

/** Shared by all tests: the modes of release, the abilities of this runtime, and ways to wait. */

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises')
const { markAsUntransferable } = require('node:worker_threads')
const { BufferPool } = require('../..')
const { canMoveMemory } = require('../../lib/runtime/native')

if (typeof globalThis.gc !== 'function') {
  throw new Error('These tests collect garbage: run them with node --expose-gc')
}

/** True if release moves memory (Node 22 and later); Node 20 leaves that to the finalizer. */
const moves = 'transfer' in ArrayBuffer.prototype

/**
 * True if a pooled Buffer can be posted to another thread. On Node 20, cistern has to be able to
 * move memory.
 */
const posts = moves || canMoveMemory()

/** True if a mark forbids detaching: from Node 24 on. Before, it only forbids posting. */
const marksHold = moves && doesMarkHold()

/**
 * True if cistern sees that the last holder of a block is gone, in any thread: on Linux. Elsewhere
 * the leased blocks of an ended thread stay in quarantine.
 */
const endsShow = canMoveMemory()

/**
 * True if blocks are cistern's own memory, false if they are V8's (`CISTERN_NO_EXTERNAL=1`). V8
 * frees its own memory itself: no thread can lease it again, and threads cannot share it.
 */
const { external } = new BufferPool().stats()

/**
 * True if idle blocks of this thread become available to other classes at once. Elsewhere their
 * finalizers return them a turn later; on Node 20 the same is true of a released block.
 */
const givesAtOnce = endsShow || !external

/**
 * True if a memory checker runs these tests (`npm run test:asan`, `npm run test:memcheck`). Then
 * resident and available memory include the checker's.
 */
const isChecked = process.env.CISTERN_CHECKED !== undefined

/**
 * The longest time to wait for an event that must come, in ms: no machine is so slow, or so loaded.
 */
const PATIENCE = 60_000

/** The ways of release, with the options that ask for them. */
const MODES = [
  { mode: 'with detach', options: {} },
  { mode: 'with reuse', options: { detachOnRelease: false } },
  { mode: 'with detach, zeroed at release', options: { zeroOnRelease: true } },
  {
    mode: 'with reuse, zeroed at release',
    options: { detachOnRelease: false, zeroOnRelease: true }
  }
]

function doesMarkHold() {
  const arrayBuffer = new ArrayBuffer(1)
  markAsUntransferable(arrayBuffer)
  try {
    arrayBuffer.transfer()
    return false
  } catch {
    return true
  }
}

/**
 * Runs `test` for every way of release.
 *
 * @param {(pool: BufferPool, options: object, context: import('node:test').TestContext) => unknown} test
 * @param {import('../..').BufferPoolOptions} [settings] for the pool, beyond the way of release
 */
function inEveryMode(test, settings = {}) {
  return async (/** @type {import('node:test').TestContext} */ context) => {
    for (const { mode, options } of MODES) {
      await context.test(mode, async (context) => {
        const pool = new BufferPool({ ...options, ...settings })
        await test(pool, options, context)
        await balanced(pool)
      })
    }
  }
}

/** Runs the finalizers that are due, without collecting anything. */
async function settle() {
  for (let i = 0; i < 5; i++) await turn()
}

/** Waits until released blocks are idle: at once, or when their finalizers have run. */
async function givenBack() {
  if (!givesAtOnce) await settle()
}

/**
 * Leases memory for which idle blocks of this thread have to make room.
 *
 * @template T
 * @param {() => T} lease of a pool that throws at the ceiling
 */
async function roomFor(lease) {
  try {
    return lease()
  } catch (error) {
    if (givesAtOnce || error.code !== 'ERR_CISTERN_EXHAUSTED') throw error
  }
  await settle()
  return lease()
}

/**
 * Collects garbage until a condition holds.
 *
 * @param {() => boolean} condition
 * @param {string} what its meaning, for the failure
 */
async function collectUntil(condition, what) {
  for (let i = 0; i < 100; i++) {
    if (condition()) return
    globalThis.gc()
    await settle()
  }
  assert.fail(`After 100 collections it does not hold: ${what}`)
}

/**
 * Waits until a condition holds, without collecting garbage.
 *
 * @param {() => unknown} condition
 * @param {string | (() => string)} what its meaning, for the failure
 */
async function until(condition, what) {
  const deadline = performance.now() + PATIENCE
  while (!(await condition())) {
    if (performance.now() > deadline) {
      assert.fail(`After a minute it does not hold: ${typeof what === 'string' ? what : what()}`)
    }
    await sleep(2)
  }
}

/**
 * Collects garbage, in this thread and in others, until a condition holds that takes other threads
 * or the clock.
 *
 * @param {() => unknown} condition
 * @param {string} what its meaning, for the failure
 * @param {import('./thread').Thread[]} [threads]
 */
async function eventually(condition, what, threads = []) {
  const deadline = performance.now() + PATIENCE
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `After a minute it does not hold: ${what}`)
    // The target of a WeakRef that was read stays alive until the next turn.
    await settle()
    globalThis.gc()
    await settle()
    await Promise.all(threads.map((thread) => thread.collect()))
    await sleep(1)
  }
}

/**
 * Asserts that the totals of a pool at rest balance, and those of every class.
 *
 * @param {BufferPool} pool
 */
async function balanced(pool) {
  await settle()
  const stats = pool.stats()
  for (const figures of [stats, ...stats.classes]) {
    const { freshBytes, inUseBytes, idleBytes, freedBytes, quarantinedBytes } = figures
    const sum = inUseBytes + idleBytes + freedBytes + quarantinedBytes
    assert.equal(freshBytes, sum, `out of balance: ${JSON.stringify(figures)}`)
    for (const [name, value] of Object.entries(figures)) {
      if (typeof value === 'number') assert.ok(value >= 0, `${name} is ${value}`)
    }
  }
  const { allocCount, hitCount, missCount, unpooledCount } = stats
  assert.equal(allocCount, hitCount + missCount + unpooledCount)
  return stats
}

/**
 * Returns the open files of this process whose path begins so. The list is empty on systems other
 * than Linux.
 *
 * @param {string} start
 */
function openFiles(start) {
  if (process.platform !== 'linux') return []
  return fs.readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const name = fs.readlinkSync(`/proc/self/fd/${fd}`)
      return name.startsWith(start) ? [name] : []
    } catch {
      return []
    }
  })
}

/**
 * Runs a script in a process of its own, with cistern as `cistern`, and returns its stdout.
 *
 * @param {string} script
 * @param {{ flags?: string[], env?: NodeJS.ProcessEnv }} [options]
 */
function runScript(script, { flags = [], env = {} } = {}) {
  const entry = JSON.stringify(path.join(__dirname, '..', '..'))
  const source = `'use strict'; const cistern = require(${entry});\n${script}`
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    ['--expose-gc', ...flags, '-e', source],
    { encoding: 'utf8', env: { ...process.env, ...env }, timeout: 120_000 }
  )
  assert.equal(status, 0, `the script ended with ${status ?? signal}:\n${stderr}\n${stdout}`)
  return stdout
}

module.exports = {
  MODES,
  PATIENCE,
  balanced,
  collectUntil,
  endsShow,
  eventually,
  external,
  givenBack,
  givesAtOnce,
  inEveryMode,
  isChecked,
  marksHold,
  moves,
  openFiles,
  posts,
  roomFor,
  runScript,
  settle,
  until
}
