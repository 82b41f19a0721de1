'use strict'

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { DEFAULTS } = require('../arms')
const { launchWith } = require('./launch')

/**
 * @typedef {object} Settings
 * @property {string} settings as the report names them
 * @property {string[]} flags of Node
 * @property {Record<string, string>} env
 */

/**
 * Makes short-lived Buffers die in the scavenger again. V8 13.6 enlarged the new space so much that
 * they die in mark-compact (nodejs/node#61967). Later versions reject this flag.
 */
const SCAVENGER_FLAG = '--scavenger-max-new-space-capacity-mb=8'

/**
 * For versions that reject that flag: a small new space, so that the scavenger runs often, and a
 * large one.
 */
const SEMI_SPACE_FLAGS = ['--max-semi-space-size=4', '--max-semi-space-size=64']

/**
 * Makes glibc retain freed memory. Above its limits glibc returns freed memory to the kernel at
 * once, and faults it in again for the next Buffer. These limits end that: 256 MiB, and 32 MiB, the
 * largest mmap threshold that it accepts.
 */
const GLIBC_RETAINS = {
  name: 'glibc retaining freed memory',
  env: {
    MALLOC_TRIM_THRESHOLD_: String(256 * 1024 * 1024),
    MALLOC_MMAP_THRESHOLD_: String(32 * 1024 * 1024)
  }
}

/** Allocators to preload, with the names of their libraries, best first. */
const ALLOCATORS = [
  { name: 'jemalloc', libraries: ['libjemalloc.so.2'] },
  { name: 'mimalloc', libraries: ['libmimalloc.so.3', 'libmimalloc.so.2', 'libmimalloc.so.2.0'] }
]

/** The longest that a Node without work may run. */
const TRIAL_MS = 10_000

/**
 * Returns all settings under which V8 may do better on this machine. The defaults are among them:
 * settings that lose to the defaults are no tuning.
 *
 * @returns {Settings[]}
 */
function tunedCandidates() {
  const flagSets = flagCandidates()
  const allocators = allocatorCandidates()
  return allocators.flatMap((allocator) =>
    flagSets.map((flags) => ({
      settings: [...flags, allocator.name].filter(Boolean).join(' and ') || DEFAULTS,
      flags,
      env: allocator.env
    }))
  )
}

function flagCandidates() {
  const flags = startsWith({ flags: [SCAVENGER_FLAG] }) ? [SCAVENGER_FLAG] : SEMI_SPACE_FLAGS
  return [[], ...flags.map((flag) => [flag])]
}

function allocatorCandidates() {
  const candidates = [{ name: '', env: {} }]
  if (process.platform !== 'linux') return candidates
  if (process.report.getReport().header.glibcVersionRuntime) candidates.push(GLIBC_RETAINS)
  for (const { name, libraries } of ALLOCATORS) {
    const library = findLibrary(libraries)
    const env = { LD_PRELOAD: library }
    if (library && startsWith({ env })) candidates.push({ name, env })
  }
  return candidates
}

/** Returns the first of the libraries in a standard place, or undefined. */
function findLibrary(names) {
  const multiarch = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch]
  const places = ['/usr/local/lib', `/usr/lib/${multiarch}`, '/usr/lib64', '/usr/lib']
  return places
    .flatMap((place) => names.map((name) => path.join(place, name)))
    .find((file) => fs.existsSync(file))
}

/**
 * Returns whether Node starts under the settings without output: ld.so only warns if it can't load
 * a library.
 */
function startsWith(settings) {
  const { flags, env } = launchWith(settings)
  const trial = spawnSync(process.execPath, [...flags, '-e', '0'], { env, timeout: TRIAL_MS })
  return trial.status === 0 && trial.stderr.length === 0
}

module.exports = { tunedCandidates }
