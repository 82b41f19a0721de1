'use strict'

const { spawn } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const CLI = path.join(__dirname, '../cli.js')

/**
 * Runs the command line as a user does.
 *
 * @param {string[]} args
 * @param {(stderr: string, child: import('node:child_process').ChildProcess) => void} [onProgress]
 * @param {NodeJS.ProcessEnv} [env] on top of this process's own
 * @returns {Promise<{ code: number, stdout: string, stderr: string, leftovers: boolean }>}
 *   `leftovers` tells whether a process that it started lives on
 */
function runCli(args, onProgress = () => {}, env = {}) {
  return new Promise((resolve, reject) => {
    // In a process group of its own, so that the test finds the processes that it leaves behind.
    const child = spawn(process.execPath, [CLI, ...args], {
      detached: true,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe']
    })
    const output = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr']) {
      child[name].setEncoding('utf8').on('data', (text) => {
        output[name] += text
        if (name === 'stderr') onProgress(output.stderr, child)
      })
    }
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, ...output, leftovers: groupLives(child.pid) }))
  })
}

function groupLives(pid) {
  try {
    process.kill(-pid, 0)
    return true
  } catch {
    return false
  }
}

/**
 * @param {import('node:test').TestContext} context
 * @returns {string} a folder that goes when the test does
 */
function temporaryFolder(context) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-compare-'))
  context.after(() => fs.rmSync(folder, { recursive: true }))
  return folder
}

module.exports = { runCli, temporaryFolder }
