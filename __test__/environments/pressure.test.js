'use strict'

/**
 * Memory limits and memory pressure, in a cgroup of the test's own: it takes root, and a memory
 * controller that can be written to. Everything short of that is tested in `src/os/pressure.rs`.
 */

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } = require('node:fs')
const path = require('node:path')
const { after, describe, test } = require('node:test')

const MIB = 1024 * 1024
const LIMIT = 400 * MIB

const ENTRY = JSON.stringify(path.join(__dirname, '..', '..'))

/** Makes a cgroup with LIMIT bytes of memory; returns `undefined` if the system allows none. */
function makeGroup() {
  try {
    const lines = readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n')
    const v1 = lines.find((line) => line.split(':')[1].split(',').includes('memory'))
    const own = (v1 ?? lines.find((line) => line.startsWith('0::')) ?? '').split(':')[2]
    const group = path.join('/sys/fs/cgroup', v1 ? 'memory' : '', own, `cistern-${process.pid}`)
    mkdirSync(group)
    const limit = path.join(group, v1 ? 'memory.limit_in_bytes' : 'memory.max')
    if (existsSync(limit)) {
      writeFileSync(limit, String(LIMIT))
      return group
    }
    rmdirSync(group)
  } catch {
    // This system has no cgroups, or the test may not make one.
  }
  return undefined
}

const group = makeGroup()

/**
 * Runs a script in the cgroup, and returns what it writes.
 *
 * @param {string} script
 */
function runInGroup(script) {
  const join = `echo $$ > ${group}/cgroup.procs && exec "$0" "$@"`
  const source = `'use strict'; const { BufferPool } = require(${ENTRY});\n${script}`
  const args = ['-c', join, process.execPath, '--expose-gc', '-e', source]
  const { status, stdout, stderr } = spawnSync('sh', args, { encoding: 'utf8', timeout: 120_000 })
  assert.equal(status, 0, stderr)
  return stdout.trim()
}

describe('in a cgroup with a limit', { skip: group === undefined && 'no cgroup to be had' }, () => {
  after(() => rmdirSync(/** @type {string} */ (group)))

  test('maxBytes is a quarter of the limit', () => {
    const output = runInGroup('console.log(new BufferPool().stats().maxBytes)')
    assert.equal(Number(output), LIMIT / 4)
  })

  test('idle memory goes at once when the limit comes near, in all threads', () => {
    const output = runInGroup(`
      const { subscribe } = require('node:diagnostics_channel')
      const { Worker } = require('node:worker_threads')
      const told = []
      subscribe('cistern:trim', ({ reason, bytes }) => bytes > 0 && told.push(reason))
      const use = 'const buffers = Array.from({ length: 40 }, () => pool.allocUnsafe(${MIB}).fill(1));' +
        'for (const buffer of buffers) pool.release(buffer)'
      const pool = new BufferPool({ idleTimeout: Infinity })
      const worker = new Worker(
        'const pool = require(${ENTRY}).BufferPool.attach(require("node:worker_threads").workerData);' +
          use + '; setInterval(() => {}, 1000); require("node:worker_threads").parentPort.postMessage(0)',
        { eval: true, workerData: pool.handle }
      )
      worker.once('message', () => {
        new Function('pool', use)(pool)
        setTimeout(() => {
          const calm = pool.stats().idleBytes
          const ballast = []
          while (process.memoryUsage().rss < ${0.93 * LIMIT}) ballast.push(Buffer.alloc(${MIB}, 1))
          const end = Date.now() + 60_000
          const look = setInterval(() => {
            const { idleBytes } = pool.stats()
            if (idleBytes > 0 && Date.now() < end) return
            clearInterval(look)
            console.log(calm >= ${30 * MIB}, idleBytes, [...new Set(told)].join(), ballast.length > 0)
            process.exit()
          }, 50)
        }, 1200)
      })
    `)
    assert.equal(output, 'true 0 pressure true')
  })
})
