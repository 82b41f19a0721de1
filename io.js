'use strict'

// All of it at once: what is loaded later may find other modules in the cache than these have.
const { chunks } = require('./lib/io/chunks')
const { end } = require('./lib/io/end')
const { onread } = require('./lib/io/onread')
const { pumpFile } = require('./lib/io/pump-file')
const { readBody } = require('./lib/io/read-body')

module.exports = { chunks, end, onread, pumpFile, readBody }
