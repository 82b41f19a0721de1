'use strict'

/**
 * Makes cistern load the addon at `CISTERN_ADDON` in place of its own, when it is preloaded. The
 * other addon is a build for a memory checker, without a witness, or for Windows. Only a clone has
 * this file: a published cistern loads no other addon.
 */

const Module = /** @type {any} */ (require('node:module'))

/** The names by which `lib/runtime/native.js` requires it, on any platform. */
const NAME = /^(?:\.\.\/\.\.\/native\/cistern\..*\.node|@cistern\/binding-.*)$/

const load = Module._load
Module._load = function (/** @type {string} */ request, /** @type {any[]} */ ...rest) {
  return load.call(this, NAME.test(request) ? process.env.CISTERN_ADDON : request, ...rest)
}
