'use strict'

// Scripts require this file first, so an old Node must be able to parse it.

const OLDEST = 20

const major = Number(process.versions.node.split('.')[0])
if (major < OLDEST) {
  const sentence = ['cistern needs Node.js', OLDEST, 'or later; this is', process.version]
  console.error(sentence.join(' '))
  process.exit(1)
}
