'use strict'

/** The documents as the tests see them: their code blocks, their links, what these lead to. */

const { existsSync, readdirSync, readFileSync } = require('node:fs')
const path = require('node:path')
const { anchors } = require('../scripts/markdown')

const root = path.join(__dirname, '..')

/** All documents, by their paths from the root. */
const names = ['.', 'compare', 'docs'].flatMap((folder) =>
  readdirSync(path.join(root, folder))
    .filter((file) => file.endsWith('.md'))
    .map((file) => path.posix.join(folder, file))
)

const BLOCK = /^```(\w*)\n(.*?)^```$/gms

/** @param {string} name */
function read(name) {
  return readFileSync(path.join(root, name), 'utf8')
}

/**
 * The code blocks of a document.
 *
 * @param {string} name
 */
function blocksOf(name) {
  const text = read(name)
  return [...text.matchAll(BLOCK)].map(({ index, 1: language, 2: code }) => ({
    document: name,
    at: `${name}:${text.slice(0, index).split('\n').length}`,
    language,
    code
  }))
}

/**
 * What is wrong with the links of a document, one sentence each. Those out of the project are not followed.
 *
 * @param {string} name
 */
function brokenLinks(name) {
  const text = read(name).replace(BLOCK, '')
  const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target)
  return targets.flatMap((target) => {
    if (/^https?:/.test(target)) return []
    const [file, anchor] = target.split('#')
    const there = file === '' ? name : path.posix.join(path.posix.dirname(name), file)
    if (there.startsWith('..') || !existsSync(path.join(root, there))) {
      return [`${name} links to ${target}, and there is no such file`]
    }
    if (anchor === undefined || anchorsOf(there).has(anchor)) return []
    return [`${name} links to ${target}, and there is no such heading`]
  })
}

/** @param {string} name */
function anchorsOf(name) {
  const headings = read(name)
    .replace(BLOCK, '')
    .matchAll(/^#+ (.+)$/gm)
  const anchor = anchors()
  return new Set([...headings].map(([, heading]) => anchor(heading)))
}

module.exports = { blocksOf, brokenLinks, names, read, root }
