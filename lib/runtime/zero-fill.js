'use strict'

/**
 * Whether Node's arguments ask for `--zero-fill-buffers`, as far as the addon can't tell: it reads those of
 * the process, over which `process.title` is written, and knows nothing of a file of options.
 */

const { readFileSync } = require('node:fs')
const process = require('node:process')

const NAME = 'zero-fill-buffers'

/** As Node has it here, whether it was given a name or is to take the default one. */
const CONFIG = /^--experimental[-_]config[-_]file=(.*)$/s

function argumentsAskForZeroFill() {
  return process.execArgv.some((arg) => {
    if (arg.replaceAll('_', '-') === `--${NAME}`) return true
    const file = CONFIG.exec(arg)?.[1]
    return file !== undefined && fileAsks(file)
  })
}

/** @param {string} file */
function fileAsks(file) {
  try {
    const { nodeOptions } = JSON.parse(readFileSync(file, 'utf8'))
    return Boolean(nodeOptions?.[NAME])
  } catch {
    // It was there when Node started: who knows what it said.
    return true
  }
}

module.exports = { argumentsAskForZeroFill }
