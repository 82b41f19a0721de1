'use strict'

const { CANDIDATE, LIMIT, TUNED } = require('../arms')
const { CONTROL } = require('../arms/control')

/**
 * Returns the arm of each role. Older results do not record the roles, so these arms have their
 * usual names.
 *
 * @param {object} experiment
 * @returns {{ baseline: string, candidate: string, tuned?: string, limit?: string }}
 */
function rolesOf({ baseline, roles }) {
  return { ...(roles ?? { tuned: TUNED, limit: LIMIT, candidate: CANDIDATE }), baseline }
}

/** Returns whether an arm is the control, which tests the machine and competes with no arm. */
function isControl(arm, { control }) {
  return arm.role === CONTROL || arm.name === control?.name
}

module.exports = { rolesOf, isControl }
