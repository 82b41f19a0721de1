#!/usr/bin/env node
'use strict'

const { Command, CommanderError, InvalidArgumentError } = require('commander')
const { compare } = require('./commands/compare')
const { DEFAULT_FILE, htmlFile } = require('./commands/html-option')
const { list } = require('./commands/list')
const { transcript } = require('./commands/transcript')
const { experiments } = require('./experiments')
const { drawResult } = require('./report')
const { coloursFor } = require('./report/colours')
const { readResult } = require('./report/result-file')
const { makePlan } = require('./runner/plan')
const { tasksOf } = require('./runner/task')
const { UsageError } = require('./usage-error')
const { version } = require('./package.json')

const WRONG_COMMAND_LINE = 2

/** What a shell reports for a process that SIGPIPE has ended. */
const BROKEN_PIPE = 141

/** More rounds than anyone waits for. */
const MAX_ROUNDS = 1000

/** Shorter windows hold too few requests, longer ones are a soak test. In seconds. */
const MIN_DURATION = 0.1
const MAX_DURATION = 600

/** More takes longer to fill than a run does. In MiB. */
const MAX_HEAP = 1024

/** For both commands that can draw the page. */
const HTML = `draw it as a page with plots, too (FILE: ${DEFAULT_FILE} if left out)`

function rounds(text) {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= 1 && value <= MAX_ROUNDS) return value
  throw new InvalidArgumentError(`It must be a whole number from 1 to ${MAX_ROUNDS}.`)
}

function seconds(text) {
  const value = Number(text)
  if (/^[\d.]+$/.test(text) && value >= MIN_DURATION && value <= MAX_DURATION) return value
  throw new InvalidArgumentError(`It must be seconds from ${MIN_DURATION} to ${MAX_DURATION}.`)
}

function mebibytes(text) {
  const value = Number(text)
  if (/^\d+$/.test(text) && value <= MAX_HEAP) return value
  throw new InvalidArgumentError(`It must be a whole number of MiB from 0 to ${MAX_HEAP}.`)
}

/** What the help tells of options that are not given: how the experiments run then. */
function defaults() {
  const plan = makePlan()
  const schedules = experiments.flatMap((experiment) =>
    tasksOf(experiment, plan).map(({ schedule }) => schedule)
  )
  return {
    runs: `(default: ${range(schedules.map((schedule) => schedule.rounds))})`,
    duration: `(default: ${range(schedules.map(({ run }) => run.durationSeconds))})`,
    heap: `(default: ${plan.heapMiB})`
  }
}

/** @param {number[]} values */
function range(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)]
  return low === high ? `${low}` : `${low} to ${high}`
}

/** @param {(code: number) => void} exit is told the exit code */
function program(exit) {
  const { runs, duration, heap } = defaults()
  const cli = new Command('cistern-compare')
    .description("Measures pooled Buffers against V8's garbage-collected ones, over real HTTP.")
    .version(version)
    .enablePositionalOptions()
    .argument('[experiment...]', 'which to run; all without it, but with --workload none')
    .option('--runs <N>', `rounds, in each of which every arm runs once ${runs}`, rounds)
    .option('--duration <SECONDS>', `measured time of each run ${duration}`, seconds)
    .option('--json <FILE>', 'keep the raw figures there, saved after each run')
    .option('--html [FILE]', HTML)
    .option(
      '--workload <FILE>',
      'run your own: a module with serve or run (compare/README.md has one)'
    )
    .option('--heap <MIB>', `objects that each process holds besides ${heap}`, mebibytes)
    .option('--full', 'longer rounds, and more of them until the ratio is known to ±2 %')
    .showHelpAfterError('(--help tells more)')
    .exitOverride()
    .action(async (names, options) => exit(await compare(names, options)))
  cli
    .command('list')
    .description('tell the experiments and the arms')
    .action(() => console.log(list()))
  cli
    .command('report')
    .description('draw a saved result again')
    .argument('<FILE>', 'written by --json')
    .option('--html [FILE]', HTML)
    .action((file, options) => {
      const result = readResult(file)
      const page = htmlFile(options)
      console.log(drawResult(result, coloursFor(process.stdout, process.env)))
      page?.write(result)
    })
  cli
    .command('transcript')
    .description(
      'print the memory that is free before and after each of 100 Buffers of 1 MiB in one request'
    )
    .argument('[ARM]', 'of http-buffers', 'v8-allocUnsafe')
    .action(async (arm) => exit(await transcript(arm)))
  return cli
}

async function main(args) {
  let code = 0
  try {
    await program((told) => {
      code = told
    }).parseAsync(args, { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_COMMAND_LINE
    if (!(error instanceof UsageError)) throw error
    console.error(`error: ${error.message}`)
    return WRONG_COMMAND_LINE
  }
  return code
}

// Whoever reads the output has heard enough, as `head` does: no reason for a stack trace.
process.stdout.on('error', (error) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(BROKEN_PIPE)
})

main(process.argv.slice(2)).then((code) => {
  process.exitCode = code
})
