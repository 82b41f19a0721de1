'use strict'

/** Where the addon is to be found. */

const path = require('node:path')
const { platform } = require('./platform')

/** Where it lies once it is built here, or came along prebuilt. */
const addonPath = path.join(__dirname, '..', 'native', `cistern.${platform}.node`)

/**
 * The package that has it prebuilt. These are optional dependencies of a published cistern only: `napi
 * pre-publish` puts them into package.json at release, since `npm ci` refuses a lock file without
 * packages that package.json names, and before a release they are nowhere to be locked.
 */
const addonPackage = `@cistern/binding-${platform}`

module.exports = { addonPackage, addonPath }
