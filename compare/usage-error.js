'use strict'

/** The command line asks for what can't be had; the message is a sentence for the user. */
class UsageError extends Error {}

module.exports = { UsageError }
