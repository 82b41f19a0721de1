'use strict'

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const path = require('node:path')
const { test } = require('node:test')
const { pathToFileURL } = require('node:url')
const { Child } = require('../runner/child')
const { RunError } = require('../runner/run-error')

/** Long enough for a process to start, on any machine. */
const PATIENCE_SECONDS = 60

const never = new Promise(() => {})

function start(script) {
  const stdio = ['ignore', 'pipe', 'pipe']
  return new Child(spawn(process.execPath, ['-e', script], { stdio }), 'the child')
}

test('a process that hangs is reported', async () => {
  const child = start('setInterval(() => {}, 1e3)')
  await assert.rejects(child.until(never, 0.05, 'answer'), {
    name: 'RunError',
    message: 'the child took longer than 0.05 s to answer'
  })
  await assert.rejects(child.end(0.05), { message: 'the child did not end within 0.05 s' })
  await child.kill()
})

test('a wait rejects when its process ends, with the last output', async () => {
  const child = start('console.error("the reason"); process.exitCode = 3')
  await assert.rejects(child.until(never, PATIENCE_SECONDS, 'answer'), (error) => {
    assert.ok(error instanceof RunError)
    assert.equal(error.message, 'the child ended with exit code 3 instead of going on to answer')
    assert.equal(error.output, 'the reason')
    return true
  })
})

test('a crash at the end is a failure', async () => {
  const child = start('process.kill(process.pid, "SIGKILL")')
  // Windows reports no signal.
  const end = process.platform === 'win32' ? 'with exit code 1' : 'by signal SIGKILL'
  await assert.rejects(child.end(PATIENCE_SECONDS), { message: `the child ended ${end}` })
})

test('a process that exits with code 0 is no failure', async () => {
  await start('0').end(PATIENCE_SECONDS)
})

test('a program that is missing is a failure', async () => {
  const child = new Child(spawn('cistern-no-such-program'), 'the child')
  await assert.rejects(child.end(PATIENCE_SECONDS), /ended with the error 'spawn .* ENOENT'/)
})

test('the saved output names no path of this machine', async () => {
  const stack = `at f (${__filename}:1:2)\nat ${pathToFileURL(__filename)}`
  const child = start(`console.error(${JSON.stringify(stack)})`)
  await child.end(PATIENCE_SECONDS)
  const [first, second] = child.failure('it failed').output.split('\n')
  assert.equal(first, `at f (${path.join('compare', 'test', 'child.test.js')}:1:2)`)
  assert.match(second, /^at file:\/\/\/?compare\/test\/child\.test\.js$/)
})
