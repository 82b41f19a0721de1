'use strict'

const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { Child } = require('../../runner/child')
const { tuningOf } = require('../../runner/launch')
const { Lines } = require('../../runner/lines')
const { temporaryFolder } = require('../../runner/temporary-folder')
const { BEGIN, END } = require('./marks')

const SCRIPT = path.join(__dirname, '../../recorder/inspected.js')

/** The deadline is long: under strace each system call takes many times as long. */
const SECONDS = 60

/** Calls that allocate memory from the system or free it. */
const MEMORY_CALLS = ['mmap', 'munmap', 'mremap', 'madvise', 'brk']

/**
 * The marks are calls of `access`, whose name depends on the machine; `?` permits a missing one.
 */
const MARK_CALLS = ['?access', '?faccessat', '?faccessat2']

const MEGA = 1e6

/** Stands where there is no figure. */
const NONE = '–'

/**
 * Inspects the memory of each arm's Buffers, in a process of its own that serves no requests.
 *
 * @param {{ name: string }[]} arms
 * @param {object} inspection from the runner
 * @returns {Promise<object[]>} tables
 */
async function inspect(arms, { specOf, launchOf, programs, signal }) {
  const { folder, remove } = temporaryFolder()
  try {
    const trace = hasStrace() ? path.join(folder, 'trace') : undefined
    const rows = []
    let told
    for (const arm of arms) {
      const spec = specOf(arm)
      spec.settings = { ...spec.settings, probe: programs.probe }
      told = await look(spec, launchOf(arm), trace, signal)
      rows.push(rowOf(arm.name, told))
    }
    return told ? [tableOf(rows, told, { ...programs, trace })] : []
  } finally {
    remove()
  }
}

async function look(spec, launch, trace, signal) {
  const told = await run(spec, launch, trace, signal)
  const calls = trace && countCalls(fs.readFileSync(trace, 'latin1'))
  return { ...told, callsPerBuffer: calls && calls / told.buffers }
}

/** Returns whether strace exists and may trace, which some containers forbid. */
function hasStrace() {
  if (process.platform !== 'linux') return false
  const trial = ['-f', '-o', '/dev/null', process.execPath, '--version']
  return spawnSync('strace', trial).status === 0
}

/** @returns {Promise<object>} the figures that the process prints */
async function run(spec, { flags, env }, trace, signal) {
  const node = [process.execPath, ...flags, SCRIPT, JSON.stringify(spec)]
  const [file, ...args] = trace ? [...straceOf(trace, tuningOf(env)), ...node] : node
  const inspected = spawn(file, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    // The variables that tune the arm must not tune strace.
    env: trace ? without(env, tuningOf(env)) : env,
    signal,
    killSignal: 'SIGKILL'
  })
  const name = 'the process with the Buffers'
  const child = new Child(inspected, name)
  try {
    const line = await new Lines(inspected, child, name).next(SECONDS, 'tell what it saw')
    await child.end(SECONDS)
    return JSON.parse(line)
  } finally {
    await child.kill()
  }
}

function straceOf(trace, tuning) {
  const variables = Object.entries(tuning).flatMap(([name, value]) => ['-E', `${name}=${value}`])
  const calls = [...MEMORY_CALLS.map((call) => `?${call}`), ...MARK_CALLS].join(',')
  return [
    'strace',
    '-f',
    '-q',
    '-o',
    trace,
    '-e',
    `trace=${calls}`,
    '-e',
    'signal=none',
    ...variables
  ]
}

function without(env, names) {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !(name in names)))
}

/**
 * Counts the calls between the marks.
 *
 * @param {string} text of strace
 */
function countCalls(text) {
  const lines = text.split('\n')
  const begin = lines.findIndex((line) => line.includes(BEGIN))
  const end = lines.findIndex((line) => line.includes(END))
  const call = new RegExp(`\\b(${MEMORY_CALLS.join('|')})\\(`)
  return lines.slice(begin, end).filter((line) => call.test(line)).length
}

function rowOf(name, { addresses, faultsPerBuffer, callsPerBuffer, rssBytes }) {
  return [
    name,
    addresses ?? NONE,
    faultsPerBuffer.toFixed(1),
    callsPerBuffer?.toFixed(2) ?? NONE,
    ...rssBytes.map((bytes) => Math.round(bytes / MEGA))
  ]
}

function tableOf(rows, { buffers, rssEvery, rssBytes }, { probe, trace }) {
  const how = [
    `${buffers} Buffers of 1 MiB after a warm-up (RSS: after so many of them), each filled, released and followed by an event-loop turn, in a process without a server`,
    probe
      ? 'addresses: how many different ones the Buffers had, from a helper that only that process loads and that asks Node-API'
      : 'addresses: unknown, because the helper for them could not be built',
    trace
      ? `map calls: ${MEMORY_CALLS.join(', ')}, seen by strace`
      : 'map calls: not counted, because strace is not installed or may not trace'
  ]
  return {
    title: 'Is the memory reused, or allocated anew?',
    columns: [
      'arm',
      `addresses`,
      'faults per Buffer',
      'map calls per Buffer',
      ...rssBytes.map((_, index) => `RSS MB, ${index * rssEvery}`)
    ],
    rows,
    note: `${how.join('; ')}. A Buffer of 1 MiB has 256 pages of 4 KiB.`
  }
}

module.exports = { inspect, countCalls }
