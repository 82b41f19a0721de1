'use strict'

/**
 * `npm run test:memcheck [-- --node PATH] [-- FILES]`: JavaScript's tests under valgrind's
 * memcheck. It sees every read and write, including those of the code that V8 compiles.
 */

require('./check-node')
const { spawnSync } = require('node:child_process')
const path = require('node:path')
const { check, options } = require('./checked')
const { fail } = require('./project')

if (spawnSync('valgrind', ['--version']).status !== 0) {
  fail('This takes valgrind: apt-get install valgrind.')
}

/**
 * It is some thirty times slower, so it runs only these tests. The others run by name, unless they
 * depend on a clock.
 */
const TESTS = [
  'pool/attacks',
  'pool/lease',
  'pool/moved-memory',
  'pool/release',
  'cache/thread-cache',
  'model/torture'
]

/** @type {import('./checked').Checker} */
const memcheck = {
  name: 'memcheck',
  toolchain: [],
  rustflags: '',
  around: (log) => ({
    command: [
      'valgrind',
      '--quiet',
      `--log-file=${log}.%p`,
      `--suppressions=${path.join(__dirname, 'memcheck.supp')}`,
      '--trace-children=yes',
      // The content of a leased block is unspecified, and V8 compares bytes that nobody has set.
      '--undef-value-errors=no',
      // Only one thread runs at a time: without this, one that never waits can stop the others.
      '--fair-sched=yes'
    ],
    env: {}
  }),
  // Its messages on large mappings, and on processes that a test ends on purpose, are no findings.
  isFinding: (report) =>
    /^==\d+== +(Invalid|Syscall param|Jump to the invalid|Mismatched|Source and)/m.test(report)
}

check(memcheck, options(TESTS))
