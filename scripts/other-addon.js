'use strict'

/**
 * Preloaded, has cistern load the addon at `CISTERN_ADDON` in place of its own: a build for a memory checker, without a
 * witness, or for Windows. Only the clone has this file, so that a published cistern can't be told to load another addon.
 */

const Module = /** @type {any} */ (require('node:module'))
const { addonPackage, addonPath } = require('../lib/addon-path')

const load = Module._load
Module._load = function (/** @type {string} */ request, /** @type {any[]} */ ...rest) {
  const isAddon = request === addonPath || request === addonPackage
  return load.call(this, isAddon ? process.env.CISTERN_ADDON : request, ...rest)
}
