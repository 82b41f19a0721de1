'use strict'

const { createColors } = require('picocolors')

/**
 * Returns colours for a terminal, and plain text for everything else or with NO_COLOR.
 *
 * @param {{ isTTY?: boolean }} stream
 * @param {NodeJS.ProcessEnv} env
 */
function coloursFor(stream, env) {
  return createColors(Boolean(stream.isTTY) && !env.NO_COLOR)
}

module.exports = { coloursFor }
