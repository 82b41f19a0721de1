'use strict'

/** An object of three fields, its string and its place in the list, as V8 lays them out on 64 bits. */
const RECORD_BYTES = 88

const MIB = 1024 * 1024

/** Alive as long as the process is. */
const records = []

/**
 * Has the process hold objects, as an application does.
 *
 * V8 starts no incremental marking while its old generation is below 8 MiB, and a bare server is just about
 * there: without this, a few hundred kilobytes of an arm's own code would decide in which way its garbage is
 * collected, which in no application of some size they do.
 *
 * @param {number} mebibytes of them; 0 leaves the bare server
 */
function fillHeap(mebibytes) {
  const count = Math.round((mebibytes * MIB) / RECORD_BYTES)
  for (let i = 0; i < count; i++) records.push({ id: i, name: `no. ${i}`, next: records[i - 1] })
}

module.exports = { fillHeap }
