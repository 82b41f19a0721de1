'use strict'

/** Runs npm for the tests. */

const { spawnSync } = require('node:child_process')
const { existsSync, realpathSync } = require('node:fs')
const path = require('node:path')

/**
 * @param {string} cwd
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} [env]
 */
function npm(cwd, args, env) {
  // With the variables that npm sets for its scripts, this npm would take our package for its own.
  const outer = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name))
  return spawnSync(process.execPath, [npmScript(), ...args, '--no-audit', '--no-fund'], {
    cwd,
    encoding: 'utf8',
    env: { ...Object.fromEntries(outer), ...env }
  })
}

/** Returns the npm that runs this process, if one does, or else the one on the PATH. */
function npmScript() {
  const own = process.env.npm_execpath
  if (own !== undefined) return own
  for (const folder of String(process.env.PATH).split(path.delimiter)) {
    // On Windows npm is a script for the shell, beside the one for Node.
    const ofWindows = path.join(folder, 'node_modules', 'npm', 'bin', 'npm-cli.js')
    if (existsSync(ofWindows)) return ofWindows
    const link = path.join(folder, 'npm')
    if (existsSync(link)) return realpathSync(link)
  }
  throw new Error('These tests take npm, and there is none on the PATH')
}

module.exports = { npm }
