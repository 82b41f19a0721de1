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

/** A shell reports this code for a process that SIGPIPE ended. */
const BROKEN_PIPE = 141

/** More rounds than anyone waits for. */
const MAX_ROUNDS = 1000

/** In seconds. Shorter windows hold too few requests; longer ones are a soak test. */
const MIN_DURATION = 0.1
const MAX_DURATION = 600

/** In MiB. A larger heap takes longer to fill than a run takes. */
const MAX_HEAP = 1024

/** The help of `--html`, which two commands have. */
const HTML = `also write a page with plots (FILE: ${DEFAULT_FILE} by default)`

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

/** Returns the defaults of the options for the help, from the schedules of the experiments. */
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

/** @param {(code: number) => void} exit receives the exit code */
function program(exit) {
  const { runs, duration, heap } = defaults()
  const cli = new Command('cistern-compare')
    .description("Measures pooled Buffers against V8's garbage-collected ones, over real HTTP.")
    .version(version)
    .enablePositionalOptions()
    .argument('[experiment...]', 'which to run (default: all, or none with --workload)')
    .option('--runs <N>', `rounds, in each of which every arm runs once ${runs}`, rounds)
    .option('--duration <SECONDS>', `measured time of each run ${duration}`, seconds)
    .option('--json <FILE>', 'save the raw figures to FILE after each run')
    .option('--html [FILE]', HTML)
    .option(
      '--workload <FILE>',
      'run your own code: a module with serve or run (see compare/README.md)'
    )
    .option('--heap <MIB>', `other objects that each process holds ${heap}`, mebibytes)
    .option('--full', 'run longer rounds, and more of them until the ratio is known to ±2 %')
    .showHelpAfterError('(see --help)')
    .exitOverride()
    .action(async (names, options) => exit(await compare(names, options)))
  cli
    .command('list')
    .description('list the experiments and their arms')
    .action(() => console.log(list()))
  cli
    .command('report')
    .description('print a saved result again')
    .argument('<FILE>', 'a result that --json saved')
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
      'print the free memory before and after each of 100 Buffers of 1 MiB in one request'
    )
    .argument('[ARM]', 'an arm of http-buffers', 'v8-allocUnsafe')
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

// A reader such as `head` closes the pipe early, which is no error.
process.stdout.on('error', (error) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(BROKEN_PIPE)
})

main(process.argv.slice(2)).then((code) => {
  process.exitCode = code
})
