'use strict'

const { createColors } = require('picocolors')

/**
 * Colours for a terminal; plain text for everything else, and for who asks for it with NO_COLOR.
 *
 * @param {{ isTTY?: boolean }} stream
 * @param {NodeJS.ProcessEnv} env
 */
function coloursFor(stream, env) {
  return createColors(Boolean(stream.isTTY) && !env.NO_COLOR)
}

module.exports = { coloursFor }
