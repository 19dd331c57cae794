/** The dashboards that Grafana has, drawn here from the same definitions. */
import { useEffect, useState } from 'preact/hooks';
import { ALERTS } from '../../alerts.ts';
import { EXPLORER } from '../../explorer.ts';
import { FLEET } from '../../fleet.ts';
import { LEDGER } from '../../ledger.ts';
import type { DashboardSpec } from '../../model.ts';
import { QUALITY } from '../../quality.ts';
import { RESULTS } from '../../results.ts';
import { BoardPanel } from './board-panel.tsx';
import { useHappened } from './events.ts';
import { choicesOf, filledIn, framesOf, wordsFilled, type Asked } from './influx.ts';
import { Refused } from './net.ts';
import { choose, type Place } from './route.ts';
import { momentText, plain } from './series.ts';
import { failed, useStore } from './store.ts';

const BOARDS: Record<string, DashboardSpec> = {
  fleet: FLEET,
  explorer: EXPLORER,
  quality: QUALITY,
  ledger: LEDGER,
  results: RESULTS,
  alerts: ALERTS,
};
const SPANS: Record<string, [label: string, ms: number]> = {
  '1h': ['1 hour', 3_600_000],
  '6h': ['6 hours', 21_600_000],
  '24h': ['1 day', 86_400_000],
  '7d': ['7 days', 604_800_000],
};
const POINTS_WANTED = 200;
const EVERY_MIN_MS = 1000;
const CHOICES_MAX = 500;
const NONE: readonly [] = [];

const titleOf = ({ title }: DashboardSpec): string => title.replace(/^Headwater \/ /, '');

interface Chosen {
  chosen: Record<string, string>;
  choices: Record<string, string[]>;
  /** Of the newest reading of what is chosen, where that is one field. */
  newestMs: number | undefined;
}

/** Variables one after another: a field is one of the measurement that is chosen before it. */
async function lookUp(spec: DashboardSpec, wanted: URLSearchParams, ask: Asked): Promise<Chosen> {
  const [chosen, choices]: [Record<string, string>, Record<string, string[]>] = [{}, {}];
  for (const variable of spec.variables) {
    const found = await choicesOf(variable, { ...ask, chosen });
    const given = wanted.get(`v.${variable.name}`) ?? '';
    choices[variable.name] = found.slice(0, CHOICES_MAX);
    const usual = found.find((each) => !/_(text|bool)$/.test(each)) ?? found[0] ?? '';
    chosen[variable.name] = found.includes(given) ? given : variable.all ? '' : usual;
  }
  return { chosen, choices, newestMs: await newestOf({ ...ask, chosen }) };
}

async function newestOf(asked: Asked): Promise<number | undefined> {
  const { measurement = '', field = '' } = asked.chosen;
  if (measurement === '' || field === '') return undefined;
  const frames = await framesOf(filledIn('SELECT last("$field") FROM "$measurement"', asked));
  const time = frames[0]?.values[0]?.[0];
  return typeof time === 'number' ? time : undefined;
}

/** What was measured long ago is looked at where it is: the range ends with it. */
const endOf = (spanMs: number, newestMs: number | undefined): number => {
  const nowMs = Date.now();
  return newestMs !== undefined && newestMs < nowMs - spanMs ? newestMs + 1 : nowMs;
};

function askedOf(spanMs: number, chosen: Record<string, string>, newestMs?: number): Asked {
  const toMs = endOf(spanMs, newestMs);
  const everyMs = Math.max(EVERY_MIN_MS, Math.round(spanMs / POINTS_WANTED / 1000) * 1000);
  return { fromMs: toMs - spanMs, toMs, everyMs, chosen };
}

/** What can be chosen and is, looked up anew with each choice, and why not. */
function useChosen(
  spec: DashboardSpec,
  wanted: URLSearchParams,
  spanMs: number,
): { own: Chosen | undefined; error: string } {
  const { round } = useStore();
  const [found, setFound] = useState<Chosen & { of: DashboardSpec }>();
  const [error, setError] = useState('');
  const asked = [...wanted].filter(([name]) => name.startsWith('v.')).join('\n');
  useEffect(() => {
    let isWanted = true;
    lookUp(spec, wanted, askedOf(spanMs, {})).then(
      (all) => {
        if (!isWanted) return;
        setFound({ ...all, of: spec });
        setError('');
      },
      (reason: unknown) => {
        failed(reason);
        if (isWanted && reason instanceof Refused) setError(reason.message);
      },
    );
    return () => {
      isWanted = false;
    };
  }, [spec, asked, round]);
  return { own: found?.of === spec ? found : undefined, error };
}

function Controls({
  spec,
  board,
  span,
  own,
}: {
  spec: DashboardSpec;
  board: string;
  span: string;
  own: Chosen | undefined;
}) {
  return (
    <div class="controls">
      <label>
        Dashboard{' '}
        <select
          id="board"
          value={board}
          onChange={(event) => choose({ board: event.currentTarget.value, span: '' })}
        >
          {Object.entries(BOARDS).map(([name, each]) => (
            <option key={name} value={name}>
              {titleOf(each)}
            </option>
          ))}
        </select>
      </label>
      {spec.variables
        .filter(({ isHidden }) => isHidden !== true)
        .map(({ name, label, all }) => (
          <label key={name}>
            {label}{' '}
            <select
              value={own?.chosen[name] ?? ''}
              onChange={(event) => choose({ [`v.${name}`]: event.currentTarget.value })}
            >
              {all && <option value="">all</option>}
              {own?.choices[name]?.map((each) => (
                <option key={each} value={each}>
                  {plain(each).slice(0, 80)}
                </option>
              ))}
            </select>
          </label>
        ))}
      <span class="ranges" role="group" aria-label="Range, back from now">
        {Object.entries(SPANS).map(([name, [label]]) => (
          <button
            key={name}
            type="button"
            aria-pressed={name === span}
            onClick={() => choose({ span: name })}
          >
            {label}
          </button>
        ))}
      </span>
    </div>
  );
}

export function DashboardsView({ place: { choices: wanted } }: { place: Place }) {
  const board = wanted.get('board') ?? 'fleet';
  // What stands in the address may be any word, such as `constructor`.
  const spec = (Object.hasOwn(BOARDS, board) ? BOARDS[board] : undefined) ?? FLEET;
  const span = wanted.get('span') ?? spec.from.replace('now-', '');
  const [, spanMs] = (Object.hasOwn(SPANS, span) ? SPANS[span] : undefined) ?? ['', 86_400_000];
  const { own, error } = useChosen(spec, wanted, spanMs);
  // Of what means all where nothing is chosen there need be none.
  const isEmpty =
    own !== undefined &&
    spec.variables.some(({ name, all }) => !all && own.choices[name]?.length === 0);
  const ask = (): Asked => askedOf(spanMs, own?.chosen ?? {}, own?.newestMs);
  const asked = `${spanMs} ${JSON.stringify(own?.chosen)} ${own?.newestMs === undefined}`;
  const happened = useHappened(
    spec.annotations ?? NONE,
    ask,
    own === undefined || isEmpty ? undefined : asked,
  );
  const isOld = own?.newestMs !== undefined && own.newestMs < Date.now() - spanMs;
  const filled = (text: string): string => wordsFilled(text, own?.chosen ?? {});
  return (
    <>
      <section class="panel">
        <h2>Dashboards</h2>
        <p class="quiet">{spec.about} Grafana shows the same ones.</p>
        <Controls spec={spec} board={board} span={span} own={own} />
        {error !== '' && (
          <p role="alert" class="bad">
            What can be chosen cannot be read: {plain(error)}
          </p>
        )}
        {own === undefined && error === '' && <p class="quiet">loading …</p>}
        {isOld && (
          <p class="quiet">
            The newest reading is of {momentText(own.newestMs ?? 0)}: the range ends there.
          </p>
        )}
        {isEmpty && <p class="empty">Nothing is stored of this yet.</p>}
      </section>
      {own !== undefined && !isEmpty && (
        <div class="board">
          {spec.panels.map((panel) => (
            <BoardPanel
              key={`${spec.uid} ${panel.title}`}
              panel={panel}
              title={filled(panel.title)}
              about={filled(panel.about)}
              ask={ask}
              asked={asked}
              happened={happened}
            />
          ))}
        </div>
      )}
    </>
  );
}
