/** Pieces that several views are made of. */
import type { ComponentChildren } from 'preact';
import { useRef, useState } from 'preact/hooks';
import { save } from './csv.ts';
import { choose } from './route.ts';
import { agoText, momentText, plain, shortText } from './series.ts';
import type { Loaded } from './store.ts';

export function Panel({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="panel">
      <h2 title={title}>{shortText(title)}</h2>
      {children}
    </section>
  );
}

export type Level = 'good' | 'warn' | 'bad' | 'quiet';
export type Cell =
  | string
  | { text: string; level?: Level | ''; isPayload?: boolean; isTime?: boolean; href?: string };

/** On one line, however narrow its column would be. */
export const momentCell = (ms: number): Cell => ({ text: momentText(ms), isTime: true });
export const agoCell = (ms: number): Cell => ({ text: agoText(ms, Date.now()), isTime: true });

/** Characters of a name, and of what has words; the whole stands in the cell's title and in the file. */
const [NAME_MAX, TEXT_MAX] = [120, 1000];

const textOf = (cell: Cell): string => (typeof cell === 'string' ? cell : cell.text);

/** Rows of texts, each as it is and never as markup; hidden characters are shown. */
export function Table({ heads, rows, label }: { heads: string[]; rows: Cell[][]; label: string }) {
  return (
    <div class="wide" tabIndex={0} role="region" aria-label={label}>
      <table>
        <thead>
          <tr>
            {heads.map((head) => (
              <th key={head} scope="col">
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, at) => (
            <tr key={at}>
              {row.map((cell, place) => {
                const whole = plain(textOf(cell));
                const shown = shortText(whole, whole.includes(' ') ? TEXT_MAX : NAME_MAX);
                const text = <bdi>{shown}</bdi>;
                const {
                  level = '',
                  isPayload = false,
                  isTime = false,
                  href,
                } = typeof cell === 'string' ? {} : cell;
                return (
                  <td
                    key={heads[place]}
                    class={`${level} ${isPayload ? 'payload' : ''} ${isTime ? 'time' : ''}`}
                    data-head={heads[place]}
                    title={shown === whole ? undefined : whole}
                  >
                    {href === undefined ? text : <a href={href}>{text}</a>}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > 1 && (
        <button
          type="button"
          class="save"
          aria-label={`${label} as CSV`}
          onClick={() => save(label, [heads, ...rows.map((row) => row.map(textOf))])}
        >
          CSV
        </button>
      )}
    </div>
  );
}

/** While an answer is on its way, and why there is none. Nothing is said of an outage here: the banner does. */
export function Waiting({ of, what }: { of: Loaded<unknown>; what: string }) {
  if (of.error !== '')
    return (
      <p role="alert" class="bad">
        {what} cannot be read: {plain(of.error)}
      </p>
    );
  return of.data === undefined ? <p class="quiet">loading …</p> : null;
}

/** What one looks for, in the address. */
export function Search({ what, text }: { what: string; text: string }) {
  return (
    <input
      type="search"
      aria-label={`Search ${what}`}
      placeholder="Search"
      value={text}
      onInput={(event) => choose({ q: event.currentTarget.value }, 'replace')}
    />
  );
}

/** Lines to take away. */
export function Lines({ title, text }: { title: string; text: string }) {
  const block = useRef<HTMLPreElement>(null);
  const [said, setSaid] = useState('');
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid('copied');
    } catch {
      // Browsers give the clipboard to https and to this machine alone.
      if (block.current !== null) getSelection()?.selectAllChildren(block.current);
      setSaid('selected: press Ctrl-C');
    }
  };
  return (
    <div class="lines">
      <h3>
        {title}{' '}
        <button type="button" onClick={() => void copy()} aria-label={`Copy: ${title}`}>
          Copy
        </button>{' '}
        <small role="status">{said}</small>
      </h3>
      <pre ref={block} tabIndex={0} aria-label={title}>
        {text}
      </pre>
    </div>
  );
}
