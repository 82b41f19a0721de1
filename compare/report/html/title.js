'use strict'

/** @param {{ name: string, variant?: string }} experiment */
function titleOf({ name, variant }) {
  return [name, variant].filter(Boolean).join(' ')
}

/** Returns the id of an experiment on the page. @param {number} index of the experiment */
function anchorOf(index) {
  return `experiment-${index + 1}`
}

module.exports = { titleOf, anchorOf }
