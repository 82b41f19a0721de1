'use strict'

const { spawn } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const CRATE = path.join(__dirname, '../client')
const TARGET = path.join(CRATE, 'target')

/** The built programs, by the names that a runner uses. */
const PROGRAMS = { load: program('cistern-load'), upstream: program('cistern-upstream') }

/** Windows finds the functions of Node in other ways. */
const PROBE = process.platform === 'win32' ? undefined : library('cistern_probe')

/** The number of lines of cargo's output that an error shows. */
const TOLD_LINES = 15

/** Reports that the load client can't be built. */
class ClientError extends Error {}

/**
 * Returns the programs of `client/`, and first builds them if one is missing or older than its
 * source.
 *
 * @param {{ signal: AbortSignal, onBuild: () => void }} options
 * @returns {Promise<typeof PROGRAMS & { probe?: string }>} their paths, with that of the probe,
 *   which gets addresses, where cargo could build it
 * @throws {ClientError} with a sentence for the user
 */
async function ensurePrograms({ signal, onBuild }) {
  const files = Object.values(PROGRAMS)
  if (isOld(files, CRATE)) {
    onBuild()
    await build('cistern-load', signal)
    touch(files)
  }
  return { ...PROGRAMS, probe: await ensureProbe(signal) }
}

async function ensureProbe(signal) {
  if (PROBE === undefined) return undefined
  if (isOld([PROBE], path.join(CRATE, 'probe'))) {
    try {
      await build('cistern-probe', signal)
    } catch (error) {
      if (error instanceof ClientError) return undefined
      throw error
    }
    touch([PROBE])
  }
  return PROBE
}

function library(name) {
  const ending = process.platform === 'darwin' ? 'dylib' : 'so'
  return path.join(TARGET, 'release', `lib${name}.${ending}`)
}

/** Returns whether one of the files is missing or older than the source of its crate. */
function isOld(files, crate) {
  return Math.min(...files.map(modified)) < newestSource(crate)
}

/** Updates the times of files that cargo did not rebuild because it deems them current. */
function touch(files) {
  for (const file of files) fs.utimesSync(file, new Date(), new Date())
}

function program(name) {
  return path.join(TARGET, 'release', process.platform === 'win32' ? `${name}.exe` : name)
}

function newestSource(crate) {
  const source = path.join(crate, 'src')
  const files = fs.readdirSync(source, { recursive: true }).map((name) => path.join(source, name))
  const manifests = ['Cargo.toml', 'Cargo.lock'].map((name) => path.join(crate, name))
  return Math.max(...[...files, ...manifests].map(modified))
}

/** Returns when the file was last written, or -Infinity if it does not exist. */
function modified(file) {
  return fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Number.NEGATIVE_INFINITY
}

function build(crate, signal) {
  const args = [
    'build',
    '--package',
    crate,
    '--release',
    '--locked',
    '--quiet',
    '--target-dir',
    TARGET
  ]
  return new Promise((resolve, reject) => {
    const cargo = spawn('cargo', [...args, '--manifest-path', path.join(CRATE, 'Cargo.toml')], {
      stdio: ['ignore', 'ignore', 'pipe'],
      signal
    })
    let output = ''
    cargo.stderr.setEncoding('utf8').on('data', (text) => {
      output += text
    })
    cargo.once('error', (error) => {
      const missing =
        'The load client is written in Rust and must be built once, but cargo is missing: install Rust from https://rustup.rs and start again.'
      reject(error.code === 'ENOENT' ? new ClientError(missing) : error)
    })
    cargo.once('close', (code) => {
      if (code === 0) return resolve()
      const told = output.trim().split('\n').slice(-TOLD_LINES).join('\n')
      reject(new ClientError(`The load client could not be built. The output of cargo:\n${told}`))
    })
  })
}

module.exports = { ensurePrograms, ClientError }
