'use strict'

/** What `npm install` runs: builds the addon, unless a prebuilt one is there and can be loaded. */

require('./check-node')
const { existsSync, rmSync } = require('node:fs')
const path = require('node:path')
const { root } = require('./project')
const { buildAddon } = require('./addon')

/** Whether this is the repository, where an addon that is there may be older than its sources. */
const isClone = existsSync(path.join(root, '__test__'))

if (isClone) buildAddon()
else if (!isPrebuilt()) {
  buildAddon()
  // A hundred times as large as the addon, and nobody builds here again.
  rmSync(path.join(root, 'target'), { recursive: true, force: true })
}

function isPrebuilt() {
  try {
    require('../lib/runtime/native')
    return true
  } catch {
    // None for this platform, or one that needs a newer C library than this system has.
    return false
  }
}
