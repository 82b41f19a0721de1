'use strict'

const { execFile } = require('node:child_process')
const path = require('node:path')
const { promisify } = require('node:util')

const SOURCE = path.join(__dirname, 'main.go')

/** Debian's golang-github-valyala-bytebufferpool-dev installs its source here. */
const GOPATH = '/usr/share/gocode'

/** The first build also builds Go's own library. */
const BUILD_MS = 120_000

const run = promisify(execFile)

/**
 * Builds the Go program if Go and bytebufferpool are installed.
 *
 * @param {string} folder for it
 * @param {AbortSignal} signal
 * @returns {Promise<{ go?: string, goMissing?: string }>} the program, or the reason why there is
 *   none
 */
async function buildGo(folder, signal) {
  const go = path.join(folder, process.platform === 'win32' ? 'go-arm.exe' : 'go-arm')
  const env = { ...process.env, GOPATH, GO111MODULE: 'off', GOFLAGS: '', CGO_ENABLED: '0' }
  try {
    await run('go', ['build', '-o', go, SOURCE], { env, cwd: folder, signal, timeout: BUILD_MS })
    return { go }
  } catch (error) {
    return { goMissing: reasonOf(error) }
  }
}

function reasonOf({ code, stderr = '' }) {
  if (code === 'ENOENT') return 'go is not installed (Debian: golang-go)'
  if (stderr.includes('cannot find package')) {
    return 'bytebufferpool is not installed (Debian: golang-github-valyala-bytebufferpool-dev)'
  }
  return `go can't build it (${stderr.trim().split('\n').at(-1) || `go ended with ${code}`})`
}

module.exports = { buildGo }
