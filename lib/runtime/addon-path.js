'use strict'

/** Tells where the addon is. */

const path = require('node:path')
const { platform } = require('./platform')

/** The file, if it was built here or came with the package. */
const addonPath = path.join(__dirname, '..', '..', 'native', `cistern.${platform}.node`)

/**
 * The package that has it prebuilt. Only a published cistern has these as optional dependencies:
 * `napi pre-publish` puts them into package.json at release. In the repository newer npms would
 * refuse to `npm ci` from a lock file without them, and before they are published there is nothing
 * to lock.
 */
const addonPackage = `@cistern/binding-${platform}`

module.exports = { addonPackage, addonPath }
