/** Texts and booleans over time: in which state it was, from when to when. */
import { momentText, spanText, valueText, type Value } from './series.ts';
import type { Points } from './points.ts';

interface Stay {
  value: Value;
  fromMs: number;
  toMs: number;
}

/** More are drawn as their neighbours' one. */
const STAYS_MAX = 400;
const SHADES = 6;
const LISTED_MAX = 30;

export function staysOf(points: Points): Stay[] {
  const stays: Stay[] = [];
  for (const [time, value] of points) {
    const last = stays.at(-1);
    if (last !== undefined) last.toMs = time;
    if (last?.value !== value) stays.push({ value, fromMs: time, toMs: time });
  }
  return stays;
}

export function Timeline({ points }: { points: Points }) {
  const stays = staysOf(points).slice(-STAYS_MAX);
  const [first] = stays;
  const last = stays.at(-1);
  if (first === undefined || last === undefined) return <p class="empty">No readings here.</p>;
  const span = Math.max(1, last.toMs - first.fromMs);
  const kinds = [...new Set(stays.map(({ value }) => value))];
  return (
    <div class="timeline">
      <div
        class="bar"
        role="img"
        aria-label={`States from ${momentText(first.fromMs)} to ${momentText(last.toMs)}; the list below has them`}
      >
        {stays.map(({ value, fromMs, toMs }) => (
          <span
            key={fromMs}
            class={`stay shade${kinds.indexOf(value) % SHADES}`}
            style={{
              left: `${((fromMs - first.fromMs) / span) * 100}%`,
              width: `${Math.max(0.15, ((toMs - fromMs) / span) * 100)}%`,
            }}
            title={`${valueText(value)}, ${momentText(fromMs)}`}
          >
            {toMs - fromMs > span / 12 ? valueText(value) : ''}
          </span>
        ))}
      </div>
      <p class="ends quiet">
        <span>{momentText(first.fromMs)}</span>
        <span>{momentText(last.toMs)}</span>
      </p>
      <table>
        <thead>
          <tr>
            <th>State</th>
            <th>Since</th>
            <th>For</th>
          </tr>
        </thead>
        <tbody>
          {stays
            .slice(-LISTED_MAX)
            .toReversed()
            .map(({ value, fromMs, toMs }) => (
              <tr key={fromMs}>
                <td>
                  <i class={`dot shade${kinds.indexOf(value) % SHADES}`} />{' '}
                  <bdi>{valueText(value)}</bdi>
                </td>
                <td>{momentText(fromMs)}</td>
                <td>{spanText(toMs - fromMs)}</td>
              </tr>
            ))}
        </tbody>
      </table>
    </div>
  );
}
