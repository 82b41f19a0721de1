'use strict'

/** Computes the anchors of a Markdown document's headings. */

/**
 * Returns a function that gives each heading of one document its anchor, as GitHub does. A repeated
 * name gets a number.
 *
 * @returns {(heading: string) => string}
 */
function anchors() {
  /** @type {Map<string, number>} */
  const seen = new Map()
  return (heading) => {
    const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    const slug = text
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{Pc} -]/gu, '')
      .replaceAll(' ', '-')
    const count = seen.get(slug) ?? 0
    seen.set(slug, count + 1)
    return count === 0 ? slug : `${slug}-${count}`
  }
}

module.exports = { anchors }
