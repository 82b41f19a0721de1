'use strict'

/**
 * Tells the runtime, and the platform by napi-rs's name: `linux-x64-gnu`, `darwin-arm64`,
 * `win32-x64-msvc`.
 */

const { Buffer } = require('node:buffer')
const { closeSync, openSync, readSync } = require('node:fs')
const process = require('node:process')

/** The bytes at the head of a program that hold its loader's name: every linker puts it there. */
const HEAD_BYTES = 4096

/**
 * Returns the C library that a program of Linux is linked against, by its loader's name. Only if
 * the program names no loader, it reads `process.report`: a report waits for the workers, which may
 * wait for this thread.
 *
 * @param {string} program
 * @returns {'gnu' | 'musl'}
 */
function libcOf(program) {
  const loader = /\/ld-(linux|musl)-/.exec(headOf(program))
  if (loader !== null) return loader[1] === 'musl' ? 'musl' : 'gnu'
  const report = /** @type {any} */ (process.report?.getReport())
  return report?.header.glibcVersionRuntime === undefined ? 'musl' : 'gnu'
}

/**
 * Returns the head of a file as text; empty if it can't be read.
 *
 * @param {string} file
 */
function headOf(file) {
  const head = Buffer.alloc(HEAD_BYTES)
  try {
    const fd = openSync(file, 'r')
    try {
      return head.toString('latin1', 0, readSync(fd, head, 0, HEAD_BYTES, 0))
    } finally {
      closeSync(fd)
    }
  } catch {
    return ''
  }
}

/** @type {Partial<Record<NodeJS.Platform, () => string>>} */
const ABIS = { linux: () => libcOf(process.execPath), win32: () => 'msvc' }

const abi = ABIS[process.platform]?.()
const platform = [process.platform, process.arch, ...(abi === undefined ? [] : [abi])].join('-')

/** True if this runtime is Node itself. Bun and Deno have modules and classes of the same names. */
const isNode = !('bun' in process.versions) && !('deno' in process.versions)

module.exports = { isNode, libcOf, platform }
