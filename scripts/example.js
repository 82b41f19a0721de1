'use strict'

/** `npm run example NAME [ARGUMENTS]`: builds the addon, and runs that example. */

require('./check-node')
const { readdirSync } = require('node:fs')
const path = require('node:path')
const { root, run } = require('./project')
const { buildAddon } = require('./addon')

const folder = path.join(root, 'examples')
const names = readdirSync(folder).map((file) => path.parse(file).name)
const [name, ...args] = process.argv.slice(2)
if (!names.includes(name)) {
  console.error(`There is no example '${name ?? ''}'. There are: ${names.join(', ')}.`)
  process.exit(2)
}
buildAddon()
run(process.execPath, [path.join(folder, `${name}.js`), ...args])
