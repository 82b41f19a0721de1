'use strict'

/** `npm install` runs this. It builds the addon, unless a prebuilt addon loads. */

require('./check-node')
const { existsSync, rmSync } = require('node:fs')
const path = require('node:path')
const { root } = require('./project')
const { buildAddon } = require('./addon')

/** True in a clone, where an existing addon may be older than its sources. */
const isClone = existsSync(path.join(root, '__test__'))

if (isClone) buildAddon()
else if (!isPrebuilt()) {
  buildAddon()
  // The build folder is a hundred times as large as the addon, and no one builds here again.
  rmSync(path.join(root, 'target'), { recursive: true, force: true })
}

function isPrebuilt() {
  try {
    require('../lib/runtime/native')
    return true
  } catch {
    // There is no addon for this platform, or it needs a newer C library.
    return false
  }
}
