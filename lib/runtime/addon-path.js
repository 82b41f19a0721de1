'use strict'

/** Where the addon is to be found. */

const path = require('node:path')
const { platform } = require('./platform')

/** Where it lies once it is built here, or came along prebuilt. */
const addonPath = path.join(__dirname, '..', '..', 'native', `cistern.${platform}.node`)

/**
 * The package that has it prebuilt. These are optional dependencies of a published cistern only: `napi
 * pre-publish` puts them into package.json at release. In the repository newer npms would refuse to `npm
 * ci` from a lock file without them, and before they are published there is nothing to lock.
 */
const addonPackage = `@cistern/binding-${platform}`

module.exports = { addonPackage, addonPath }
