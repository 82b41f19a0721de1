'use strict'

/**
 * Looks for `--zero-fill-buffers` where the addon can't see it. The addon reads the arguments of
 * the process, which `process.title` overwrites, and no file of options.
 */

const { readFileSync } = require('node:fs')
const process = require('node:process')

const NAME = 'zero-fill-buffers'

/** The argument as Node shows it, with a given name or the default one. */
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
    // The file was there when Node started, and may have asked for it.
    return true
  }
}

module.exports = { argumentsAskForZeroFill }
