'use strict'

/** Which runtime this is, and the name of the platform, as napi-rs has it: `linux-x64-gnu`, `darwin-arm64`, `win32-x64-msvc`. */

const { Buffer } = require('node:buffer')
const { closeSync, openSync, readSync } = require('node:fs')
const process = require('node:process')

/** So much of a program holds the name of its loader, which every linker puts close to the beginning. */
const HEAD_BYTES = 4096

/**
 * Which C library a program of Linux is linked against: its loader's name tells. Only where there is
 * none `process.report` is asked, since a report waits for the workers, who may be waiting for us.
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

/** @param {string} file */
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

/** Others have modules and classes of the same names. */
const isNode = !('bun' in process.versions) && !('deno' in process.versions)

module.exports = { isNode, libcOf, platform }
