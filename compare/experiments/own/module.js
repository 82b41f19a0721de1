'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { pathToFileURL } = require('node:url')
const { UsageError } = require('../../usage-error')

/** The largest Buffer of any pool. */
const LARGEST = 2 ** 30

/** The longest reason in a message about a module that did not load. */
const TOLD_LINES = 6

/**
 * @typedef {object} Memory gives a user's own workload its Buffers
 * @property {(size: number) => Buffer} take returns a Buffer with any contents
 * @property {(buffer: Buffer) => void} give takes a Buffer back that no code reads or writes any
 *   more
 *
 * @typedef {object} OwnModule the exports of a user's own file: `serve` or `run`
 * @property {string} [title] the work in words
 * @property {number} maxSize the size of its largest Buffer, in bytes
 * @property {(memory: Memory, request: import('node:http').IncomingMessage, response:
 *   import('node:http').ServerResponse) => unknown} [serve] answers a request, and may return a
 *   promise that resolves after that
 * @property {(memory: Memory) => unknown} [run] does one operation, and may return a promise
 */

/**
 * Loads a user's own workload, a CommonJS or an ES module.
 *
 * @param {string} file
 * @returns {Promise<OwnModule>}
 * @throws {UsageError} that says what is missing
 */
async function loadOwnModule(file) {
  const place = path.resolve(file)
  if (!fs.statSync(place, { throwIfNoEntry: false })?.isFile()) {
    throw new UsageError(`Can't read the workload '${file}': there is no such file.`)
  }
  const exported = await imported(place, file)
  const flaw = flawOf(exported)
  if (flaw) throw new UsageError(`'${file}' is no workload: ${flaw}. (compare/README.md has one.)`)
  return exported
}

async function imported(place, file) {
  try {
    const module = await import(pathToFileURL(place).href)
    // `default` holds all exports of a CommonJS module.
    return module.default ?? module
  } catch (error) {
    const told = String(error?.stack ?? error)
      .split('\n')
      .slice(0, TOLD_LINES)
      .join('\n')
    throw new UsageError(`The workload '${file}' can't be loaded. ${told}`)
  }
}

/** Describes the fault of an export, in words that complete "it is no workload: …". */
function flawOf(exported) {
  if (typeof exported !== 'object' || exported === null) return 'it exports no object'
  const { title, maxSize, serve, run } = exported
  if (serve === undefined && run === undefined) {
    return 'it exports neither serve(memory, request, response), which answers a request, nor run(memory), which does one operation'
  }
  if (serve !== undefined && run !== undefined) return 'it exports both serve and run: choose one'
  const [name, work] = serve === undefined ? ['run', run] : ['serve', serve]
  if (typeof work !== 'function') return `its ${name} is no function`
  if (maxSize === undefined) return 'it exports no maxSize, the size of its largest Buffer in bytes'
  if (!Number.isInteger(maxSize) || maxSize < 1 || maxSize > LARGEST) {
    return `its maxSize must be a whole number of bytes from 1 to ${LARGEST}, and is ${String(maxSize)}`
  }
  if (title !== undefined && typeof title !== 'string') return 'its title is no string'
  return undefined
}

module.exports = { loadOwnModule }
