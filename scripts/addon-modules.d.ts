/** The addon, as `lib/native.js` requires it by each of its names. */

declare module '*.node' {
  const addon: import('../lib/native').Native
  export = addon
}

declare module '@cistern/binding-*' {
  const addon: import('../lib/native').Native
  export = addon
}
