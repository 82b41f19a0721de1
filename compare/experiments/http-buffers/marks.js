'use strict'

/** Files that nobody has. Asking for them marks a place among the system calls of a process. */
module.exports = { BEGIN: '/cistern-compare-begin', END: '/cistern-compare-end' }
