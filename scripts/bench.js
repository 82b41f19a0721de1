'use strict'

/**
 * `npm run bench [-- --no-rust]`: measures the fast path beside its floors and competitors, in one
 * thread and in two. Then it measures the growable buffer, files over http, the cost of one item
 * among many, and the depot in Rust.
 */

require('./check-node')
const path = require('node:path')
const { commandLine } = require('./command-line')
const { root, run, installDependencies } = require('./project')
const { buildAddon } = require('./addon')

const { values } = commandLine({ options: { 'no-rust': { type: 'boolean', default: false } } })

installDependencies()
buildAddon()
run(process.execPath, ['--expose-gc', path.join(root, 'bench', 'lease.js')])
run(process.execPath, [path.join(root, 'bench', 'threads.js')])
run(process.execPath, ['--expose-gc', path.join(root, 'bench', 'byte-buffer.js')])
run(process.execPath, [path.join(root, 'bench', 'files.js')])
run(process.execPath, ['--expose-gc', path.join(root, 'bench', 'scaling.js')])
if (!values['no-rust'])
  run('cargo', ['bench', '--quiet', '--locked', '--manifest-path', 'bench/depot/Cargo.toml'])
