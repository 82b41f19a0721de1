'use strict'

const { register } = require('./lib/metrics')

module.exports = { register }
