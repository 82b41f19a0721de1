#!/usr/bin/env node
'use strict'

const { Command, CommanderError, InvalidArgumentError } = require('commander')
const { compare } = require('./commands/compare')
const { list } = require('./commands/list')
const { drawResult } = require('./report')
const { coloursFor } = require('./report/colours')
const { readResult } = require('./report/result-file')
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

/** Options that are planned and refused until they are there. */
const NOT_BUILT_YET = ['--html', '--workload']

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

/** @param {(code: number) => void} exit is told the exit code */
function program(exit) {
  const cli = new Command('cistern-compare')
    .description("Measures pooled Buffers against V8's garbage-collected ones, over real HTTP.")
    .version(version)
    .argument('[experiment...]', 'which to run; all without it')
    .option('--runs <N>', 'rounds, in each of which every arm runs once (default: 3)', rounds)
    .option('--duration <SECONDS>', 'measured time of each run (default: 1.6)', seconds)
    .option('--json <FILE>', 'keep the raw figures there, saved after each run')
    .option('--full', '9 rounds of 5 s, for figures to publish')
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
    .action((file) => {
      console.log(drawResult(readResult(file), coloursFor(process.stdout, process.env)))
    })
  return cli
}

/** @param {string[]} args */
function refusePlanned(args) {
  const planned = NOT_BUILT_YET.find((option) =>
    args.some((arg) => arg === option || arg.startsWith(`${option}=`))
  )
  if (planned) throw new UsageError(`${planned} is not built yet.`)
}

async function main(args) {
  let code = 0
  try {
    refusePlanned(args)
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
