'use strict'

const media = ['(prefers-color-scheme: dark)', 'print'].map((query) => window.matchMedia(query))

/** @param {string} name of a custom property of the page, as it is now: in the dark, or on paper */
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim()
}

/** @param {() => void} listener is called when the colours are others */
function onThemeChange(listener) {
  for (const query of media) query.addEventListener('change', listener)
}

module.exports = { colour, onThemeChange }
