'use strict'

const { arms, roles } = require('./arms')
const { makeFiles } = require('./files')
const { growthTable } = require('./growth')

const KIB = 1024
const MIB = 1024 * KIB

/** "A very large file", and one of a usual web page. */
const LARGE = { size: 8 * MIB, told: '8 MiB', prefix: '8MiB' }
const SMALL = { size: 64 * KIB, told: '64 KiB', prefix: '64KiB' }

/** From one connection to many. */
const CONNECTIONS = [1, 10, 50, 200]

/** The connections of the small file's one table, and of the heats. */
const USUAL_CROWD = 50

const PACE = {
  usual: { rounds: 5, durationSeconds: 0.14, warmupSeconds: 0.06 },
  full: { rounds: 7, durationSeconds: 4, warmupSeconds: 1 }
}

/** With 200 files of 8 MiB in flight, `readFile` completes none of them for a second or two. */
const PACE_OF_MANY = {
  usual: { rounds: 5, durationSeconds: 0.35, warmupSeconds: 0.15 },
  full: { rounds: 7, durationSeconds: 6, warmupSeconds: 2 }
}

/** @returns {import('../index').HttpWorkload} */
function workload({ size, told, prefix }, connections) {
  const variant = `${prefix}-${connections}`
  const isLarge = size === LARGE.size
  const isLast = connections === CONNECTIONS.at(-1)
  return {
    variant,
    title: `a file of ${told} to ${connections} ${connections === 1 ? 'connection' : 'connections'}`,
    unit: 'request',
    waits: true,
    connections,
    sizes: [size],
    replyBytes: isLarge ? size : undefined,
    throughput: 'bytes of the file that the client got',
    fullOnly: !isLarge && connections !== USUAL_CROWD,
    pace: isLarge && isLast ? PACE_OF_MANY : PACE,
    heatsOf: `${LARGE.prefix}-${USUAL_CROWD}`,

    setUp({ arm, settings }) {
      return { arm, file: { path: settings.files[size], size } }
    },

    async serve({ arm, file }, _request, response) {
      response.setHeader('Content-Length', file.size)
      await arm.send(response, file)
      return file.size
    },

    tearDown({ arm }) {
      arm.close()
    },

    evidence(entries) {
      if (!isLast) return []
      return [growthTable(entries.filter((entry) => entry.variant.startsWith(`${prefix}-`)))]
    }
  }
}

/** @type {import('../index').Experiment} */
module.exports = {
  name: 'file-serving',
  question: 'How do the memory and the throughput of a file server grow with its connections?',
  arms,
  roles,
  workloads: [LARGE, SMALL].flatMap((file) =>
    CONNECTIONS.map((connections) => workload(file, connections))
  ),
  headline: `${LARGE.prefix}-${USUAL_CROWD}`,

  async prepare() {
    return makeFiles([LARGE.size, SMALL.size])
  }
}
