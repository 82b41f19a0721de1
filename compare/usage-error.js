'use strict'

/** Reports a wrong command line. Its message is a sentence for the user. */
class UsageError extends Error {}

module.exports = { UsageError }
