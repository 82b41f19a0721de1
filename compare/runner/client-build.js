'use strict'

const { spawn } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const CRATE = path.join(__dirname, '../client')
const TARGET = path.join(CRATE, 'target')
const BINARY = path.join(
  TARGET,
  'release',
  process.platform === 'win32' ? 'cistern-load.exe' : 'cistern-load'
)

/** Lines of cargo's output that tell what went wrong. */
const TOLD_LINES = 15

/** The load client can't be built. */
class ClientError extends Error {}

/**
 * The load client's program, built first if it is missing or older than its source.
 *
 * @param {{ signal: AbortSignal, onBuild: () => void }} options
 * @returns {Promise<string>} its path
 * @throws {ClientError} with a sentence for the user
 */
async function ensureClient({ signal, onBuild }) {
  if (modified(BINARY) < newestSource()) {
    onBuild()
    await build(signal)
    // cargo leaves a program alone that is up to date by its own measure.
    fs.utimesSync(BINARY, new Date(), new Date())
  }
  return BINARY
}

function newestSource() {
  const source = path.join(CRATE, 'src')
  const files = fs.readdirSync(source).map((name) => path.join(source, name))
  const manifests = ['Cargo.toml', 'Cargo.lock'].map((name) => path.join(CRATE, name))
  return Math.max(...[...files, ...manifests].map(modified))
}

/** When the file was last written; never, if there is none. */
function modified(file) {
  return fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Number.NEGATIVE_INFINITY
}

function build(signal) {
  const args = ['build', '--release', '--locked', '--quiet', '--target-dir', TARGET]
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
        'The load client is written in Rust and has to be built once, but there is no cargo: install Rust from https://rustup.rs and start again.'
      reject(error.code === 'ENOENT' ? new ClientError(missing) : error)
    })
    cargo.once('close', (code) => {
      if (code === 0) return resolve()
      const told = output.trim().split('\n').slice(-TOLD_LINES).join('\n')
      reject(new ClientError(`The load client could not be built, cargo said:\n${told}`))
    })
  })
}

module.exports = { ensureClient, ClientError }
