'use strict'

/**
 * The size of an object with three fields, with its string and its list entry, in a V8 of 64 bits.
 */
const RECORD_BYTES = 88

const MIB = 1024 * 1024

/** Lives as long as the process. */
const records = []

/**
 * Makes the process hold objects, as an application does.
 *
 * V8 starts no incremental marking while its old generation is below 8 MiB, and a bare server is
 * close to that. Without these objects, a few hundred kilobytes of an arm's own code would decide
 * how V8 collects its garbage. In a real application they do not.
 *
 * @param {number} mebibytes of objects; 0 leaves the bare server
 */
function fillHeap(mebibytes) {
  const count = Math.round((mebibytes * MIB) / RECORD_BYTES)
  for (let i = 0; i < count; i++) records.push({ id: i, name: `no. ${i}`, next: records[i - 1] })
}

module.exports = { fillHeap }
