'use strict'

const { medians } = require('../../analysis/medians')

const MEGA = 1e6

/**
 * Returns a table that shows how memory and throughput grow with the connections.
 *
 * @param {object[]} entries raw, of the same file, each with other connections
 * @returns {object} a table
 */
function growthTable(entries) {
  const [{ arms }] = entries
  const cells = (name, metric) =>
    entries.map((entry) => {
      const { [metric]: figure } = medians(entry.arms.find((arm) => arm.name === name)?.runs ?? [])
      return figure === undefined ? '–' : Math.round(figure / MEGA)
    })
  return {
    title: 'Growth with the connections',
    columns: [
      'arm',
      ...entries.map(({ connections }) => `MB/s, ${connections}`),
      ...entries.map(({ connections }) => `peak RSS MB, ${connections}`)
    ],
    rows: arms.map(({ name }) => [
      name,
      ...cells(name, 'bytesPerSecond'),
      ...cells(name, 'rssPeakBytes')
    ]),
    note: 'Medians. The number after each comma is that of the connections, each with one request in flight.'
  }
}

module.exports = { growthTable }
