'use strict'

// Runs before anything that an old Node could not parse, so it is written for one.

const OLDEST = 20

const major = Number(process.versions.node.split('.')[0])
if (major < OLDEST) {
  const sentence = ['cistern needs Node.js', OLDEST, 'or later; this is', process.version]
  console.error(sentence.join(' '))
  process.exit(1)
}
