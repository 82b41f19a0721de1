'use strict'

const { createHash } = require('node:crypto')

/** As `workload.js`, without a server: `npm start -- --workload compare/examples/loop.js`. */
module.exports = {
  title: 'a record of 32 KiB, put together and hashed',
  maxSize: 32 * 1024,
  run({ take, give }) {
    const buffer = take(32 * 1024).fill('record')
    createHash('sha1').update(buffer).digest()
    give(buffer)
  }
}
