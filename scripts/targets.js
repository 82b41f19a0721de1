'use strict'

/**
 * `npm run test:targets [-- TARGET…]`: type-checks the addon for each platform that gets a binary,
 * or for the named ones. This machine can run tests on few of them.
 */

require('./check-node')
const { fail, run } = require('./project')
const { crossFor, howToGet } = require('./toolchains')
const { napi } = require('../package.json')

const wanted = process.argv.slice(2)
const unknown = wanted.filter((target) => !napi.targets.includes(target))
if (unknown.length > 0) {
  fail(`There is no binary for ${unknown.join(', ')}, but for ${napi.targets.join(', ')}`)
}
for (const target of wanted.length > 0 ? wanted : napi.targets) check(target)

/** @param {string} target */
function check(target) {
  const cross = crossFor(target)
  if (cross === undefined) fail(howToGet(target))
  const { cargo, args, env } = cross
  console.error(`${target} …`)
  run(cargo, ['check', '--quiet', '--lib', ...args], { env: { ...env, RUSTFLAGS: '-Dwarnings' } })
}
