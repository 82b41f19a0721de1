'use strict'

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

/** Existing folders. None may outlive this process, however it ends. */
const folders = new Set()
process.on('exit', () => {
  for (const folder of folders) fs.rmSync(folder, { recursive: true, force: true })
})

/**
 * Makes a folder for the files of an experiment.
 *
 * @returns {{ folder: string, remove: () => void }}
 */
function temporaryFolder() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'cistern-compare-'))
  folders.add(folder)
  return {
    folder,
    remove() {
      fs.rmSync(folder, { recursive: true, force: true })
      folders.delete(folder)
    }
  }
}

module.exports = { temporaryFolder }
