'use strict'

/** Files that do not exist. Access to them marks a point among the system calls of a process. */
module.exports = { BEGIN: '/cistern-compare-begin', END: '/cistern-compare-end' }
