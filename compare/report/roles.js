'use strict'

const { CANDIDATE, LIMIT, TUNED } = require('../arms')
const { CONTROL } = require('../arms/control')

/**
 * Which arm stands for what. Older results do not tell it: theirs are the arms of that name.
 *
 * @param {object} experiment
 * @returns {{ baseline: string, candidate: string, tuned?: string, limit?: string }}
 */
function rolesOf({ baseline, roles }) {
  return { ...(roles ?? { tuned: TUNED, limit: LIMIT, candidate: CANDIDATE }), baseline }
}

/** The baseline again, as a test of the machine: none of the contenders. */
function isControl(arm, { control }) {
  return arm.role === CONTROL || arm.name === control?.name
}

module.exports = { rolesOf, isControl }
