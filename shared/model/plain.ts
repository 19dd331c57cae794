/**
 * What others have named or written, so that it can be shown: what shows nothing or turns the direction of writing stands there as
 * what it is (C0, C1, zero width, fillers, bidirectional controls, tags), and marks that pile up over a letter end at the fifth,
 * so that none reaches the line above. Joined emoji lose their joining; selectors of how one looks stay.
 */
export const HIDDEN = String.raw`[\p{Cc}\p{Zl}\p{Zp}\u2800\ufff9-\ufffb]|(?![\ufe00-\ufe0f])\p{DI}|(?<=\p{M}{5})\p{M}`;
const HIDDEN_PATTERN = new RegExp(HIDDEN, 'gu');
const USUAL = /^[ -~]*$/;

/** Each of its code units, as JSON has it. */
const shown = (each: string): string =>
  each
    .split('')
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .join('');

export const plain = (text: string): string =>
  USUAL.test(text) ? text : text.replaceAll(HIDDEN_PATTERN, shown);
