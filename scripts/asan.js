'use strict'

/**
 * `npm run test:asan [-- --node PATH] [-- FILES]`: Rust's tests and JavaScript's under
 * AddressSanitizer.
 *
 * It checks the addon, and Node's and libc's accesses to a block through the functions that it
 * replaces (memcpy, memset, memcmp, read, write). Only memcheck sees JavaScript's own reads and
 * writes.
 */

require('./check-node')
const { spawnSync } = require('node:child_process')
const path = require('node:path')
const { cargoFor, check, options } = require('./checked')
const { fail } = require('./project')

/**
 * rustc's runtime is for Rust programs. Node gets the C compiler's, which has the same interface.
 */
function findRuntime() {
  const { stdout } = spawnSync('gcc', ['-print-file-name=libasan.so'], { encoding: 'utf8' })
  const runtime = stdout?.trim() ?? ''
  if (!path.isAbsolute(runtime)) fail('This takes gcc with its libasan: apt-get install gcc.')
  return runtime
}

if (spawnSync('cargo', ['+nightly', '--version']).status !== 0) {
  fail('This takes a nightly Rust: rustup toolchain install nightly --profile minimal.')
}

/**
 * The tests that move blocks; not the documents, the metrics, the package, nor tests that wait for
 * a clock.
 */
const TESTS = [
  'pool/acquire',
  'pool/acquire-attacks',
  'pool/attacks',
  'pool/bad-input',
  'pool/buffer',
  'pool/byte-buffer',
  'pool/ceiling',
  'pool/exhausted',
  'pool/call-site',
  'pool/leak',
  'pool/lease',
  'pool/moved-memory',
  'pool/release',
  'pool/totals',
  'pool/unpooled',
  'pool/waiting',
  'cache/thread-cache',
  'environments/environments',
  'environments/faults',
  'environments/sudden-ends',
  'io/abandoned',
  'io/attacks',
  'io/body-attacks',
  'io/body-random',
  'io/body-size',
  'io/chunks',
  'io/chunks-streams',
  'io/connections',
  'io/end',
  'io/faults',
  'io/forged',
  'io/forged-objects',
  'io/http2',
  'io/leaving',
  'io/onread',
  'io/pump-file',
  'io/pump-file-ends',
  'io/read-body',
  'io/read-body-clients',
  'io/read-body-streams',
  'model/model',
  'model/torture',
  'threads/acquire',
  'threads/attached',
  'threads/handle',
  'threads/posting',
  'threads/posting-ends',
  'threads/threads'
]

/** @type {import('./checked').Checker} */
const asan = {
  name: 'asan',
  toolchain: ['+nightly'],
  rustflags: '-Zsanitizer=address',
  around: (log) => ({
    command: [],
    env: {
      LD_PRELOAD: findRuntime(),
      ASAN_OPTIONS: [
        `log_path=${log}`,
        // Node frees little of its memory when it ends. Rust's tests look for leaks.
        'detect_leaks=0',
        // Returns null as malloc does, because tests ask for more memory than there is.
        'allocator_may_return_null=1'
      ].join(':')
    }
  }),
  isFinding: (report) => report.includes('ERROR: AddressSanitizer')
}

const { node, tests, isWhole } = options(TESTS)
if (isWhole) {
  // The sanitizer has memory of its own, which is resident, and must not be refused.
  const unfit = ['--skip', 'giving_back_lowers_the_resident_set']
  cargoFor(asan).cargo('test', '--lib', '--test', 'model', '--', ...unfit)
}
check(asan, { node, tests })
