'use strict'

/**
 * Programs that a test writes into a folder of its own, and runs as processes. The folder goes when
 * the file's tests end.
 */

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { after } = require('node:test')

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-programs-'))
after(() => fs.rmSync(folder, { recursive: true }))

/**
 * Writes a program. Returns its path.
 *
 * @param {string} name of the file
 * @param {string} text
 */
function writeProgram(name, text) {
  const file = path.join(folder, name)
  fs.writeFileSync(file, text)
  return file
}

/**
 * Runs a program as a process. Returns its output and its exit code.
 *
 * @param {string} file
 * @param {string[]} [flags] for Node
 */
function runProgram(file, flags = []) {
  return spawnSync(process.execPath, [...flags, file], { encoding: 'utf8', timeout: 120_000 })
}

module.exports = { folder, runProgram, writeProgram }
