'use strict'

/**
 * The documents as the tests see them: their code blocks, their links, and the targets of these.
 */

const { existsSync, readdirSync, readFileSync } = require('node:fs')
const path = require('node:path')
const { anchors } = require('../../scripts/markdown')

const root = path.join(__dirname, '..', '..')

/** All documents, by their paths from the root. */
const names = ['.', '.github', 'compare', 'docs'].flatMap((folder) =>
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
 * Returns the code blocks of a document.
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
 * Returns the links of a document that stay in the project: the file of each, by its path from the
 * root, and the heading.
 *
 * @param {string} name
 */
function linksOf(name) {
  return linksIn(name, read(name))
}

/**
 * @param {string} name of the document that has the text
 * @param {string} text
 */
function linksIn(name, text) {
  const prose = text.replace(BLOCK, '')
  const targets = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target)
  return targets
    .filter((target) => !/^https?:/.test(target))
    .map((target) => {
      const [file, anchor] = target.split('#')
      const there = file === '' ? name : path.posix.join(path.posix.dirname(name), file)
      return { target, file: there, anchor }
    })
}

/**
 * Returns a sentence for each link of a document that leads to no file or no heading.
 *
 * @param {string} name
 * @param {string} [text] instead of the document's own
 */
function brokenLinks(name, text = read(name)) {
  return linksIn(name, text).flatMap(({ target, file, anchor }) => {
    if (file.startsWith('..') || !existsSync(path.join(root, file))) {
      return [`${name} links to ${target}, and there is no such file`]
    }
    if (anchor === undefined || anchorsOf(file).has(anchor)) return []
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

module.exports = { blocksOf, brokenLinks, linksOf, names, read, root }
