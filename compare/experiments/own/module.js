'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { pathToFileURL } = require('node:url')
const { UsageError } = require('../../usage-error')

/** Larger ones no pool has. */
const LARGEST = 2 ** 30

/** How much is told of why a module did not load. */
const TOLD_LINES = 6

/**
 * @typedef {object} Memory what a person's own workload has Buffers from
 * @property {(size: number) => Buffer} take with any contents
 * @property {(buffer: Buffer) => void} give when nobody reads or writes it any more
 *
 * @typedef {object} OwnModule what a person's own file exports: `serve` or `run`
 * @property {string} [title] what is done
 * @property {number} maxSize the size of its largest Buffer, in bytes
 * @property {(memory: Memory, request: import('node:http').IncomingMessage,
 *   response: import('node:http').ServerResponse) => unknown} [serve] answers a request, and may return a
 *   promise that it has
 * @property {(memory: Memory) => unknown} [run] one operation, and may return a promise that it is done
 */

/**
 * Loads a person's own workload: a CommonJS or an ES module.
 *
 * @param {string} file
 * @returns {Promise<OwnModule>}
 * @throws {UsageError} which says what is missing
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
    // Of a CommonJS module `default` is all that it exports.
    return module.default ?? module
  } catch (error) {
    const told = String(error?.stack ?? error)
      .split('\n')
      .slice(0, TOLD_LINES)
      .join('\n')
    throw new UsageError(`The workload '${file}' can't be loaded. ${told}`)
  }
}

/** What is wrong with an export, in words that complete "it is no workload: …". */
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
