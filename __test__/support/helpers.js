'use strict'

/** What the tests share. */

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

/** Whether release moves memory (Node 22 and on) or leaves that to the finalizer (Node 20). */
const moves = 'transfer' in ArrayBuffer.prototype

/** Whether a pooled Buffer can be posted to another thread: on Node 20 where cistern can move memory. */
const posts = moves || canMoveMemory()

/** Whether a mark forbids to detach: from Node 24. Before, only to post. */
const marksHold = moves && doesMarkHold()

/**
 * Whether it shows when the last holder of a block is gone, in whichever thread: on Linux. Elsewhere what
 * a thread had leased that has ended is set aside for good.
 */
const endsShow = canMoveMemory()

/**
 * Whether blocks are memory of cistern's own, or V8's (`CISTERN_NO_EXTERNAL=1`). V8 keeps its own memory
 * when nobody has it any more: it can't be had again, nor shared between threads.
 */
const { external } = new BufferPool().stats()

/**
 * Whether idle blocks of this thread give way at once: else when their finalizers come, a turn later. On Node 20
 * so does a block that is released.
 */
const givesAtOnce = endsShow || !external

/**
 * Whether a memory checker runs these tests (`npm run test:asan`, `npm run test:memcheck`): then what is resident, or can
 * be had, is the checker's as well.
 */
const isChecked = process.env.CISTERN_CHECKED !== undefined

/** For how long what must come is waited for, in ms: no machine is so slow, or so loaded. */
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

/** Lets finalizers run that are due, without collecting anything. */
async function settle() {
  for (let i = 0; i < 5; i++) await turn()
}

/** Until what was given back is in the depot: at once, or when its finalizer has come. */
async function givenBack() {
  if (!givesAtOnce) await settle()
}

/**
 * A lease for which idle blocks of this thread have to give way.
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
 * @param {string} what it means, for the failure
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
 * Waits until a condition holds, without collecting garbage: for what must happen without it.
 *
 * @param {() => unknown} condition
 * @param {string | (() => string)} what it means, for the failure
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
 * Collects garbage, in this thread and in others, until a condition holds: for what other threads do, or
 * the clock.
 *
 * @param {() => unknown} condition
 * @param {string} what it means, for the failure
 * @param {import('./thread').Thread[]} [threads]
 */
async function eventually(condition, what, threads = []) {
  const deadline = performance.now() + PATIENCE
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `After a minute it does not hold: ${what}`)
    // What a WeakRef has shown stays until the next turn.
    await settle()
    globalThis.gc()
    await settle()
    await Promise.all(threads.map((thread) => thread.collect()))
    await sleep(1)
  }
}

/**
 * Asserts that the books of a pool at rest balance, in total and in every class.
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
 * Files that this process has open, of those whose path begins so. Only Linux tells: elsewhere there may be some.
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
