'use strict'

const { randomBytes } = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { temporaryFolder } = require('../../runner/temporary-folder')

/**
 * Makes the files that all arms serve. They have just been written, so that the system has them in its
 * page cache: it is memory that is compared and no disk.
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
