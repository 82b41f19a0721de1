'use strict'

// All at once: a module that is loaded later may find other modules in the cache than these have.
const { chunks } = require('./chunks')
const { end } = require('./end')
const { onread } = require('./onread')
const { pumpFile } = require('./pump-file')
const { readBody } = require('./read-body')

module.exports = { chunks, end, onread, pumpFile, readBody }
