'use strict'

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { DEFAULTS } = require('../arms')
const { launchWith } = require('./launch')

/**
 * @typedef {object} Settings
 * @property {string} settings in words
 * @property {string[]} flags of Node
 * @property {Record<string, string>} env
 */

/**
 * V8 13.6 raised the new space so far that short-lived Buffers die in mark-compact instead of in the
 * scavenger; this flag takes that back (nodejs/node#61967). Later versions refuse it.
 */
const SCAVENGER_FLAG = '--scavenger-max-new-space-capacity-mb=8'

/** Where that flag is refused: a small new space, so that the scavenger runs often, and a large one. */
const SEMI_SPACE_FLAGS = ['--max-semi-space-size=4', '--max-semi-space-size=64']

/**
 * glibc gives freed memory above these limits back to the kernel at once, only to fault it in again
 * for the next Buffer. 256 MiB and 32 MiB (the largest mmap threshold that it accepts) end that.
 */
const GLIBC_KEEPS = {
  name: 'glibc keeping freed memory',
  env: {
    MALLOC_TRIM_THRESHOLD_: String(256 * 1024 * 1024),
    MALLOC_MMAP_THRESHOLD_: String(32 * 1024 * 1024)
  }
}

/** Allocators that can be preloaded, and the names of their libraries, best first. */
const ALLOCATORS = [
  { name: 'jemalloc', libraries: ['libjemalloc.so.2'] },
  { name: 'mimalloc', libraries: ['libmimalloc.so.3', 'libmimalloc.so.2', 'libmimalloc.so.2.0'] }
]

/** How long a Node that does nothing may take. */
const TRIAL_MS = 10_000

/**
 * All settings under which V8 may do better on this machine, the defaults among them: what they
 * can't beat is no tuning.
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
  if (process.report.getReport().header.glibcVersionRuntime) candidates.push(GLIBC_KEEPS)
  for (const { name, libraries } of ALLOCATORS) {
    const library = findLibrary(libraries)
    const env = { LD_PRELOAD: library }
    if (library && startsWith({ env })) candidates.push({ name, env })
  }
  return candidates
}

/** The first of the libraries in a standard place, or undefined. */
function findLibrary(names) {
  const multiarch = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch]
  const places = ['/usr/local/lib', `/usr/lib/${multiarch}`, '/usr/lib64', '/usr/lib']
  return places
    .flatMap((place) => names.map((name) => path.join(place, name)))
    .find((file) => fs.existsSync(file))
}

/** Whether Node starts under the settings, and says nothing: ld.so only warns of what it can't load. */
function startsWith(settings) {
  const { flags, env } = launchWith(settings)
  const trial = spawnSync(process.execPath, [...flags, '-e', '0'], { env, timeout: TRIAL_MS })
  return trial.status === 0 && trial.stderr.length === 0
}

module.exports = { tunedCandidates }
