'use strict'

const { medians } = require('../../analysis/medians')
const { median } = require('simple-statistics')

const KIB = 1024
const KILO = 1e3
const MEGA = 1e6
const GIGA = 1e9

/** Stands where there is no figure. */
const NONE = '–'

/** The rows of the original experiment's table, with our figure for each. */
const SEED = [
  {
    told: 'resident memory',
    put: '8 MB',
    notPut: '46 MB',
    ours: ({ rssPeakBytes }) => bytes(rssPeakBytes)
  },
  {
    told: 'inuse_space',
    put: '512 KB',
    notPut: '512 KB',
    ours: ({ heldEmptyBytes }) => bytes(heldEmptyBytes)
  },
  {
    told: 'alloc_space (ours: per second)',
    put: '512 KB',
    notPut: '49 GB, growing',
    ours: ({ freshBytesPerSecond }) => bytes(freshBytesPerSecond)
  },
  {
    told: 'CPU',
    put: '100 %',
    notPut: '200 %',
    ours: ({ serverCpuShare }) => percent(serverCpuShare)
  }
]

/** The arms with and without put, in the order of the columns. */
const PUT = ['go-put', 'pool-safe']
const NOT_PUT = ['go-not-put', 'pool-gc', 'v8-allocUnsafe']

/**
 * Returns the original experiment's table with our figures beside it.
 *
 * @param {object} entry raw
 */
function seedTable({ arms }) {
  const shown = [...PUT, ...NOT_PUT].filter((name) => arms.some((arm) => arm.name === name))
  const figures = shown.map((name) => figuresOf(arms, name))
  const titles = shown.map((name) => `${name} (${PUT.includes(name) ? 'put' : 'not put'})`)
  return {
    title: 'The figures of the experiment that this one repeats, and ours',
    columns: ['', 'then, put', 'then, not put', ...titles],
    rows: SEED.map(({ told, put, notPut, ours }) => [
      told,
      put,
      notPut,
      ...figures.map((figure) => ours(figure) ?? NONE)
    ]),
    note: 'Resident memory: the peak in the window. inuse_space: memory held when all are put back and the garbage is collected, with the idle blocks of a pool. alloc_space: fresh memory, for Go from its runtime, for cistern from the system, for V8 all Buffers. CPU: 100 % is one core.'
  }
}

/**
 * Returns a table of the memory that stays held when all buffers, some of which grew large, are put
 * back.
 *
 * @param {object} entry raw
 * @param {import('./work').Plan} work
 */
function growthTable({ arms }, { together, bytes: each, largeBytes, largeEvery }) {
  const needed = together * each
  return {
    title: `Held for ${together} buffers of ${each / KIB} KiB, one of ${largeEvery} of which grows to ${largeBytes / KIB} KiB`,
    columns: ['arm', 'held MB', '÷ needed'],
    rows: arms.map(({ name }) => {
      const { heldEmptyBytes } = figuresOf(arms, name)
      return [name, ...shares(heldEmptyBytes, needed)]
    }),
    note: 'When all are put back and the garbage is collected. Without a cap each reused buffer grows sooner or later, and stays large (golang/go#23199).'
  }
}

/**
 * Returns a table of the memory that blocks of 4 KiB waste when they hold less.
 *
 * @param {object} entry raw
 * @param {import('./work').Plan} work
 */
function wasteTable({ arms }, { together, bytes: each }) {
  const asked = together * each
  return {
    title: `Held while ${together} buffers of ${each} B are in use`,
    columns: ['arm', 'held MB', '÷ asked'],
    rows: arms.map(({ name }) => {
      const { heldFullBytes } = figuresOf(arms, name)
      return [name, ...shares(heldFullBytes, asked)]
    }),
    note: 'free-list and pool-hinted take blocks of 4 KiB. pool-safe learns the size by 42,000 releases; the larger blocks from before are idle then, and go back to the system within idleTimeout.'
  }
}

/** Returns the medians of the runs. */
function figuresOf(arms, name) {
  const runs = arms.find((arm) => arm.name === name)?.runs ?? []
  const own = ['freshBytesPerSecond', 'heldEmptyBytes', 'heldFullBytes'].map((figure) => {
    const values = runs.map((run) => run[figure]).filter(Number.isFinite)
    return [figure, values.length === 0 ? undefined : median(values)]
  })
  return { ...medians(runs), ...Object.fromEntries(own) }
}

function shares(held, needed) {
  if (held === undefined) return [NONE, NONE]
  return [(held / MEGA).toFixed(2), (held / needed).toFixed(2)]
}

function bytes(value) {
  if (value === undefined) return undefined
  if (value >= GIGA) return `${(value / GIGA).toFixed(1)} GB`
  if (value >= MEGA) return `${Math.round(value / MEGA)} MB`
  return `${Math.round(value / KILO)} KB`
}

function percent(share) {
  return share === undefined ? undefined : `${Math.round(share * 100)} %`
}

module.exports = { seedTable, growthTable, wasteTable }
