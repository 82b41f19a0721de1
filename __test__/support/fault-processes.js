'use strict'

/**
 * Runs the children of the tests of faults: each in a process of its own, with `faults.c` where
 * that is compiled.
 */

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const crypto = require('node:crypto')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { after } = require('node:test')
const { external, isChecked, runScript } = require('./helpers')

const MIB = 1024 * 1024

const onlyLinux = { skip: process.platform !== 'linux' && 'as Linux has it' }

/** V8's allocations are not tested here. */
const onOwnMemory = { skip: !external && "where blocks are memory of cistern's own" }

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-faults-'))
after(() => fs.rmSync(folder, { recursive: true }))

/** A file of 8 MiB. */
const smallFile = path.join(folder, 'small-file')
fs.writeFileSync(smallFile, crypto.randomBytes(8 * MIB))

/** The compiled `faults.c`; `undefined` if there is no compiler. */
const shim = compile()

function compile() {
  const library = path.join(folder, 'faults.so')
  const source = path.join(__dirname, 'faults.c')
  const args = ['-shared', '-fPIC', '-o', library, source, '-ldl', '-lpthread']
  return spawnSync('cc', args).status === 0 ? library : undefined
}

/**
 * Runs a function in a process of its own, with what `faults.js` exports.
 *
 * @param {(faults: typeof import('./faults'), given: any) => Promise<void>} work sees nothing else
 *   of this file
 * @param {{ given?: unknown, env?: NodeJS.ProcessEnv }} [options]
 */
function inChild(work, { given = {}, env = {} } = {}) {
  const faults = JSON.stringify(path.join(__dirname, 'faults'))
  const output = runScript(
    `void (${work})(require(${faults}), ${JSON.stringify(given)}).then(() => console.log('done'))`,
    // glibc takes 64 MiB of addresses for each thread that allocates, which a test needs for
    // itself.
    { env: { MALLOC_ARENA_MAX: '1', ...env } }
  )
  assert.equal(output, 'done\n')
}

/**
 * Does the same with `faults.c`.
 *
 * @param {import('node:test').TestContext} context
 * @param {(faults: typeof import('./faults'), given: any) => Promise<void>} work
 * @param {unknown} [given]
 */
function withShim(context, work, given) {
  if (shim === undefined) context.skip('there is no compiler')
  else if (isChecked) context.skip('a memory checker replaces the same functions')
  else inChild(work, { given, env: { LD_PRELOAD: shim } })
}

module.exports = { MIB, folder, inChild, onlyLinux, onOwnMemory, smallFile, withShim }
