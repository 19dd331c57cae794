/** A mapping: one to begin with, on trial over messages, and decoding again once it is in force. */
import { useState } from 'preact/hooks';
import type { Done } from '../../../shared/http/client.ts';
import { madeText } from './messages.ts';
import { get, post } from './net.ts';
import { Lines, Table } from './parts.tsx';
import { countText, plain } from './series.ts';
import { renamed } from './store.ts';

type Trial = Done<'/api/v1/mappings/try'>['trials'][number];
/** What is tried. */
export interface Kept {
  payload: string;
  encoding: string;
}

const PAYLOAD_MAX = 200;
const LOOK_MS = 300;
/** Messages of a trial. */
const LIMIT = 20;
const NAMES_MAX = 12;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);

export const payloadText = (payload: string, encoding = 'utf8'): string => {
  const text = encoding === 'utf8' ? payload : `(${encoding}) ${payload}`;
  return text.length > PAYLOAD_MAX ? `${text.slice(0, PAYLOAD_MAX)} …` : text;
};

function objectOf(payload: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(payload);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>) // Just asked.
      : {};
  } catch {
    return {};
  }
}

/** YAML takes texts as JSON writes them; what nobody would see in it is written as its number. */
const said = (text: string): string => plain(JSON.stringify(text));
const flow = (entries: [name: string, value: string][]): string =>
  `{ ${entries.map(([name, value]) => `${said(name)}: ${value}`).join(', ')} }`;

/** Dates and times as devices write them that are told by their look alone, and their `format`. */
const TIMES: [look: RegExp, format: string][] = [
  [/^\d\d\.\d\d\.\d{4} \d\d:\d\d:\d\d$/, 'DD.MM.YYYY HH:mm:ss'],
  [/^\d\d\.\d\d\.\d{4} \d\d:\d\d$/, 'DD.MM.YYYY HH:mm'],
  [/^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d$/, ''],
  [/^\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d$/, 'YYYY/MM/DD HH:mm:ss'],
];

/** Their zone nobody has said: the browser's is most often the device's. */
function timeLine(entries: [name: string, value: unknown][]): string {
  for (const [name, value] of entries)
    for (const [look, format] of typeof value === 'string' ? TIMES : [])
      if (look.test(value as string)) {
        const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
        const written = format === '' ? '' : `format: "${format}", `;
        return `    time: { from: ${said(name)}, ${written}zone: ${said(timeZone)} }`;
      }
  return '    # time: { from: ts, unit: ms }';
}

/** To be changed: the topic as it is, and the names of the payload where they are of use. */
export function mappingFor(topic: string, payload = ''): string {
  const entries = Object.entries(objectOf(payload)).slice(0, NAMES_MAX);
  const levels = topic.split('/');
  const quantities = entries.filter(
    ([, value]) => typeof value === 'string' && /^\s*[+-]?\d+([.,]\d+)?\s*\D{0,6}$/.test(value),
  );
  const names = entries.filter(([, value]) => typeof value !== 'object').map(([name]) => name);
  return [
    'mappings:',
    `  - topic: ${said(topic)}   # {device} in place of a level makes a tag of it`,
    `    measurement: ${said(levels.at(-1) || 'readings')}`,
    quantities.length === 0
      ? '    # types: { level: quantity }   # "239 mm" is the number 239'
      : `    types: ${flow(quantities.map(([name]) => [name, 'quantity']))}`,
    `    # rename: ${flow((names.length === 0 ? ['t'] : names).map((name) => [name, said(name)]))}`,
    timeLine(entries),
    '',
  ].join('\n');
}

export function DecodeAgain({
  topic,
  which = 'quarantined',
  onDone,
}: {
  topic: string;
  which?: 'quarantined' | 'all';
  onDone: () => void;
}) {
  const [said, setSaid] = useState('');
  const decode = async (): Promise<void> => {
    setSaid('decoding …');
    const startedMs = Date.now();
    try {
      const asked = { which, ...(topic === '' ? {} : { topic }) };
      const { id } = await post('/api/v1/replay', asked);
      for (;;) {
        const { jobs } = await get('/api/v1/replay');
        const job = jobs.find((each) => each.id === id);
        if (job?.finished === true) {
          setSaid(
            `${countText(job.readings)} readings of ${countText(job.messages)} messages; ${countText(job.quarantined)} still cannot be decoded`,
          );
          break;
        }
        await sleep(LOOK_MS);
      }
    } catch (error) {
      setSaid(messageOf(error));
    }
    renamed(startedMs);
    onDone();
  };
  const what = which === 'all' ? 'all of this topic again' : 'again';
  return (
    <p>
      <button type="button" onClick={() => void decode()}>
        Decode {what}
        {topic === '' || which === 'all' ? '' : ' what matches'}
      </button>{' '}
      <output id="again-result">{plain(said)}</output>
    </p>
  );
}

/** How many of them have nothing that is to be told of them. */
function saidOf(trials: readonly Trial[]): string {
  if (trials.length === 0)
    return 'no message of this topic is in quarantine or at the end of the log';
  const well = (of: 'today' | 'withFile'): number =>
    trials.filter((each) => each[of].readings.length > 0 && each[of].told.length === 0).length;
  return `${well('withFile')} of its last ${trials.length} become readings without a remark; today ${well('today')}`;
}

function Trials({ trials }: { trials: readonly Trial[] }) {
  return (
    <Table
      label="What it would become"
      heads={['Payload', 'Today', 'With this mapping']}
      rows={trials.map(({ payload, encoding, today, withFile }) => [
        { text: payloadText(payload, encoding), isPayload: true },
        madeText(today),
        { text: madeText(withFile), level: withFile.told.length === 0 ? 'good' : 'warn' },
      ])}
    />
  );
}

/** `file`: that of --mappings; undefined: not asked yet. */
function WhereTo({ file }: { file: string | undefined }) {
  return (
    <p class="quiet">
      Nothing is written by trying.{' '}
      {file === '' ? (
        <>
          This collector was started without a mapping file: save what is right, start it once with{' '}
          <code>--mappings FILE</code>, and decode again; then a change is taken within two seconds.
        </>
      ) : (
        <>
          What is right goes into the file of <code>--mappings</code>, which is taken within two
          seconds; then decode again.
        </>
      )}
    </p>
  );
}

/** A mapping over `messages`, or without them over the newest of its topic that the collector has; nothing is written. */
export function TryMapping({
  topic: usual,
  begin = '',
  messages,
}: {
  topic: string;
  /** A payload whose names the mapping to begin with has. */
  begin?: string;
  messages?: Kept[];
}) {
  const [topic, setTopic] = useState(usual);
  const [mapping, setMapping] = useState(mappingFor(usual, begin));
  const [trials, setTrials] = useState<Trial[]>();
  const [file, setFile] = useState<string>();
  const [said, setSaid] = useState('');
  const attempt = async (): Promise<void> => {
    setSaid('trying …');
    try {
      const asked = {
        mapping,
        topic,
        ...(messages === undefined ? { limit: LIMIT } : { messages }),
      };
      const answer = await post('/api/v1/mappings/try', asked);
      setTrials(answer.trials);
      setFile(answer.file);
      setSaid(saidOf(answer.trials));
    } catch (error) {
      setTrials(undefined);
      setSaid(messageOf(error));
    }
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void attempt();
      }}
    >
      <p class="controls">
        <label>
          Topic <input value={topic} onInput={(event) => setTopic(event.currentTarget.value)} />
        </label>
        <button type="submit">Try</button> <output id="try-result">{plain(said)}</output>
      </p>
      <textarea
        id="mapping"
        aria-label="Mapping on trial"
        rows={7}
        spellcheck={false}
        value={mapping}
        onInput={(event) => setMapping(event.currentTarget.value)}
      />
      {trials !== undefined && trials.length > 0 && (
        <>
          <Trials trials={trials} />
          <Lines
            title={file === '' ? 'This mapping, for a file' : `This mapping, for ${file}`}
            text={mapping}
          />
        </>
      )}
      <WhereTo file={file} />
    </form>
  );
}
