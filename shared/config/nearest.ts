/** The known word that a mistyped one most likely meant. */

/** More edits than this are another word. */
const EDITS_MAX = 2;

/** Levenshtein's distance; two neighbours that changed places count as one edit (Damerau). */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, (before[j - 2] ?? 0) + 1);
      row.push(least);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}

/** Undefined when nothing is near. A longer beginning that is the same is near as well (`quar` for `quarantine`). */
export function nearest(word: string, known: readonly string[]): string | undefined {
  if (word === '' || word.length > 64) return undefined;
  const beginning = known.filter((each) => word.length >= 3 && each.startsWith(word));
  if (beginning.length === 1) return beginning[0];
  const ranked = known
    .map((each) => ({ each, edits: distance(word, each) }))
    .filter(({ each, edits }) => edits <= EDITS_MAX && edits < each.length / 2)
    .sort((a, b) => a.edits - b.edits);
  return ranked[0]?.each;
}

/** ` (did you mean 'X'?)`, or nothing. */
export function didYouMean(word: string, known: readonly string[], prefix = ''): string {
  const each = nearest(word, known);
  return each === undefined ? '' : ` (did you mean '${prefix}${each}'?)`;
}
