'use strict'

const { parseArgs } = require('node:util')

/**
 * Returns the options of the command line, from `parseArgs`. A wrong command line ends the process
 * with one sentence and exit code 2.
 *
 * @template {import('node:util').ParseArgsConfig} Config
 * @param {Config} config
 */
function commandLine(config) {
  try {
    return parseArgs(config)
  } catch (error) {
    const { options = {} } = config
    const known = Object.keys(options).map((name) => `--${name}`)
    console.error(`${/** @type {Error} */ (error).message} (There are ${known.join(', ')}.)`)
    process.exit(2)
  }
}

module.exports = { commandLine }
