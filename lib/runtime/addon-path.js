'use strict'

/** Tells where the addon is. */

const path = require('node:path')
const { platform } = require('./platform')

/** The file, if it was built here or came with the package. */
const addonPath = path.join(__dirname, '..', '..', 'native', `cistern.${platform}.node`)

/**
 * The package that has it prebuilt. Only a published cistern has these as optional dependencies:
 * `napi pre-publish` puts them into package.json at release. In the repository they are missing:
 * newer versions of npm refuse `npm ci` if the lock file lacks an optional dependency, and
 * unpublished packages can't be locked.
 */
const addonPackage = `@cistern/binding-${platform}`

module.exports = { addonPackage, addonPath }
