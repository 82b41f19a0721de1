'use strict'

/**
 * `npm test`: sets up what is missing, then runs every test.
 *
 * `npm test -- --node PATH` runs only the addon's JavaScript tests, with another Node;
 * `npm test -- --debug` runs only them on a debug build, with the ownership assertions, and
 * leaves the addon as `npm run build` makes it.
 */

require('./check-node')
const { readdirSync } = require('node:fs')
const path = require('node:path')
const { commandLine } = require('./command-line')
const { crates, root, run, flagsFor, installDependencies } = require('./project')
const { buildAddon } = require('./addon')

const { values } = commandLine({
  options: { node: { type: 'string' }, debug: { type: 'boolean', default: false } }
})
const only = values.node !== undefined || values.debug

installDependencies()
buildAddon({ debug: values.debug })
if (values.debug) process.on('exit', () => buildAddon())
if (!only) {
  for (const crate of crates)
    run('cargo', ['test', '--quiet', '--locked', '--manifest-path', crate])
  run(process.execPath, ['--test', ...testsIn('compare/test')])
}
const node = values.node ?? process.execPath
run(node, ['--test', '--expose-gc', ...flagsFor(node), ...testsIn('__test__')])

/**
 * @param {string} folder
 */
function testsIn(folder) {
  return readdirSync(path.join(root, folder))
    .filter((name) => name.endsWith('.test.js') || name.endsWith('.test.mjs'))
    .map((name) => path.join(folder, name))
}
