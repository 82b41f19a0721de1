'use strict'

/**
 * Preloaded, has cistern load the addon at `CISTERN_ADDON` in place of its own: a build for a memory checker, without a
 * witness, or for Windows. Only the clone has this file, so that a published cistern can't be told to load another addon.
 */

const Module = /** @type {any} */ (require('node:module'))

/** The names by which `lib/runtime/native.js` requires it, on any platform. */
const NAME = /^(?:\.\.\/\.\.\/native\/cistern\..*\.node|@cistern\/binding-.*)$/

const load = Module._load
Module._load = function (/** @type {string} */ request, /** @type {any[]} */ ...rest) {
  return load.call(this, NAME.test(request) ? process.env.CISTERN_ADDON : request, ...rest)
}
