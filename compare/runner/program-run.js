'use strict'

const { spawn } = require('node:child_process')
const { Child } = require('./child')
const { Lines } = require('./lines')

/** Time for the program beyond its warm-up and its window. */
const GRACE_SECONDS = 20

/**
 * Runs an arm that is a program of its own. The program receives the seconds of its warm-up and of
 * its window, and prints the metrics as one line of JSON.
 *
 * @param {import('./arm-run').Run} run
 */
async function runProgram({ kind, workload, spec, launch, signal }) {
  const [file, ...args] = kind.program(spec.settings, workload)
  const { warmupSeconds, durationSeconds } = spec.timing
  const process = spawn(file, [...args, String(warmupSeconds), String(durationSeconds)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: launch.env,
    signal,
    killSignal: 'SIGKILL'
  })
  const name = `the program of ${kind.name}`
  const child = new Child(process, name)
  try {
    const lines = new Lines(process, child, name)
    const seconds = warmupSeconds + durationSeconds + GRACE_SECONDS
    const metrics = JSON.parse(await lines.next(seconds, 'report what it recorded'))
    await child.end(GRACE_SECONDS)
    return { ...metrics, errors: 0 }
  } finally {
    await child.kill()
  }
}

module.exports = { runProgram }
