'use strict'

/** The version of the JSON that this program writes and reads. */
const SCHEMA = 1

/**
 * @param {unknown} result parsed JSON
 * @returns {object} the same, fit to be drawn
 * @throws {Error} whose message completes "it is no result: …"
 */
function checkResult(result) {
  expect(isObject(result), 'it holds no object')
  expect(
    result.schema === SCHEMA,
    `its schema is ${JSON.stringify(result.schema)}, and this version reads ${SCHEMA}`
  )
  expect(isObject(result.meta), 'it has no meta')
  expect(Array.isArray(result.experiments), 'it has no experiments')
  result.experiments.forEach(checkExperiment)
  return result
}

function checkExperiment(experiment, index) {
  const place = `experiments[${index}]`
  expect(isObject(experiment), `${place} is no object`)
  expect(typeof experiment.name === 'string', `${place} has no name`)
  expect(typeof experiment.baseline === 'string', `${place} has no baseline`)
  expect(typeof experiment.verdict === 'string', `${place} has no verdict`)
  expect(isListOf(experiment.arms, isObject), `${place} has no arms`)
  expect(isOptional(experiment.warnings, isString), `${place} has wrong warnings`)
  expect(isOptional(experiment.tuned, isHeat), `${place} has a wrong list of heats`)
  experiment.arms.forEach((arm, position) => {
    checkArm(arm, `${place}.arms[${position}]`)
  })
}

function checkArm(arm, place) {
  expect(typeof arm.name === 'string', `${place} has no name`)
  expect(isListOf(arm.runs, isObject), `${place} has no runs`)
  expect(isObject(arm.median), `${place} has no median`)
  expect(
    Object.values(arm.median).every(Number.isFinite),
    `${place} has a median that is no number`
  )
  expect(isObject(arm.ratio), `${place} has no ratio`)
  expect(Object.values(arm.ratio).every(isRatio), `${place} has a wrong ratio`)
}

function isRatio(ratio) {
  return isObject(ratio) && [ratio.value, ratio.low, ratio.high].every(Number.isFinite)
}

function isHeat(heat) {
  return isObject(heat) && isString(heat.settings)
}

function isString(value) {
  return typeof value === 'string'
}

function isOptional(list, isMember) {
  return list === undefined || isListOf(list, isMember)
}

function isListOf(list, isMember) {
  return Array.isArray(list) && list.every(isMember)
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function expect(condition, problem) {
  if (!condition) throw new Error(problem)
}

module.exports = { checkResult, SCHEMA }
