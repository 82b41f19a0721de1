'use strict'

// Runs before anything that an old Node could not parse, so it is written for one.

const OLDEST = 20

const major = Number(process.versions.node.split('.')[0])
if (major < OLDEST) {
  console.error(
    'cistern needs Node.js ' + OLDEST + ' or later; this is ' + process.version + ' (https://nodejs.org).' // biome-ignore lint/style/useTemplate: an old Node reads this
  )
  process.exit(1)
}
