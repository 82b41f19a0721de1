/** The addon, as `lib/runtime/native.js` requires it by each of its names. */

declare module '*.node' {
  const addon: import('../lib/runtime/native').Native
  export = addon
}

declare module '@cistern/binding-*' {
  const addon: import('../lib/runtime/native').Native
  export = addon
}
