'use strict'

const { randomBytes } = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { temporaryFolder } = require('../../runner/temporary-folder')

/**
 * Makes the files that all arms serve. The system holds them in its page cache, because they are
 * newly written. So the experiment compares memory and no disk.
 *
 * @param {number[]} sizes in bytes
 * @returns {import('../index').Prepared}
 */
function makeFiles(sizes) {
  const { folder, remove } = temporaryFolder()
  try {
    const files = sizes.map((size) => {
      const file = path.join(folder, String(size))
      fs.writeFileSync(file, randomBytes(size))
      return [size, file]
    })
    return { settings: { files: Object.fromEntries(files) }, close: remove }
  } catch (error) {
    remove()
    throw error
  }
}

module.exports = { makeFiles }
