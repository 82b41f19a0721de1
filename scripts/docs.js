'use strict'

/** `npm run docs`: writes `docs/api.md` from the types. */

require('./check-node')
const { writeFileSync } = require('node:fs')
const path = require('node:path')
const { installDependencies, root } = require('./project')

installDependencies()
// Required only now, because it needs TypeScript.
const { reference } = require('./api-reference')
writeFileSync(path.join(root, 'docs', 'api.md'), reference())
