/** What could not be read is kept: why, a mapping on trial, and decoding it again. */
import { useState } from 'preact/hooks';
import { get, post } from './net.ts';
import { Panel, Table, Waiting } from './parts.tsx';
import { choose, type Place } from './route.ts';
import { agoText, countText, plain, valueText, type Value } from './series.ts';
import { useLoad } from './store.ts';

export interface Quarantine {
  count: number;
  items: {
    gateway: string;
    topic: string;
    client: string;
    reason: string;
    receivedMs: number;
    payload: string;
    encoding: string;
  }[];
  reasons: { reason: string; count: number }[];
}
interface Job {
  id: string;
  finished: boolean;
  messages: number;
  readings: number;
  quarantined: number;
}
interface Made {
  readings: { measurement: string; tags: Record<string, string>; fields: Record<string, Value> }[];
  told: string[];
}
interface Trial {
  payload: string;
  today: Made;
  withFile: Made;
}

const PAYLOAD_MAX = 200;
const LOOK_MS = 300;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);

export const payloadText = (payload: string, encoding = 'utf8'): string => {
  const text = encoding === 'utf8' ? payload : `(${encoding}) ${payload}`;
  return text.length > PAYLOAD_MAX ? `${text.slice(0, PAYLOAD_MAX)} …` : text;
};

/** A beginning: each level of the topic by itself, to be changed. */
export const mappingFor = (topic: string): string =>
  `mappings:\n  - topic: ${JSON.stringify(topic)}\n    # fields: { temperature: sensors.0.t }\n`;

function DecodeAgain({ topic, onDone }: { topic: string; onDone: () => void }) {
  const [said, setSaid] = useState('');
  const decode = async (): Promise<void> => {
    setSaid('decoding …');
    try {
      const { id } = await post<{ id: string }>('api/v1/replay', topic === '' ? {} : { topic });
      for (;;) {
        const { jobs } = await get<{ jobs: Job[] }>('api/v1/replay');
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
    onDone();
  };
  return (
    <p>
      <button type="button" onClick={() => void decode()}>
        Decode again{topic === '' ? '' : ' what matches'}
      </button>{' '}
      <output id="again-result">{plain(said)}</output>
    </p>
  );
}

function madeText({ readings, told }: Made): string {
  const made = readings.flatMap(({ measurement, fields }) =>
    Object.entries(fields).map(([name, value]) => `${measurement} ${name}=${valueText(value)}`),
  );
  return [...made, ...told].join('; ') || 'nothing';
}

/** A mapping over the newest messages of a topic in quarantine; nothing is written. */
function TryMapping({ topic: usual }: { topic: string }) {
  const [topic, setTopic] = useState(usual);
  const [mapping, setMapping] = useState(mappingFor(usual));
  const [trials, setTrials] = useState<Trial[]>();
  const [said, setSaid] = useState('');
  const attempt = async (): Promise<void> => {
    setSaid('trying …');
    try {
      const answer = await post<{ trials: Trial[] }>('api/v1/mappings/try', { mapping, topic });
      setTrials(answer.trials);
      setSaid(answer.trials.length === 0 ? 'no message of this topic is in quarantine' : '');
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
        value={mapping}
        onInput={(event) => setMapping(event.currentTarget.value)}
      />
      {trials !== undefined && trials.length > 0 && (
        <Table
          label="What it would become"
          heads={['Payload', 'Today', 'With this mapping']}
          rows={trials.map(({ payload, today, withFile }) => [
            { text: payloadText(payload), isPayload: true },
            madeText(today),
            { text: madeText(withFile), level: withFile.told.length === 0 ? 'good' : 'warn' },
          ])}
        />
      )}
      <p class="quiet">
        Nothing is written. What is right goes into the file of <code>--mappings</code>; then decode
        again.
      </p>
    </form>
  );
}

export function QuarantineView({ place }: { place: Place }) {
  const topic = place.choices.get('topic') ?? '';
  const asked = new URLSearchParams({ limit: '100', ...(topic === '' ? {} : { topic }) });
  const found = useLoad<Quarantine>(`api/v1/quarantine?${asked.toString()}`, 5000);
  const { data } = found;
  const first = data?.items[0]?.topic ?? topic;
  return (
    <>
      <Panel title="Quarantine: messages that could not be decoded or stored">
        <p>They are kept: mend the mapping, then decode them again.</p>
        <p class="controls">
          <label>
            Topic{' '}
            <input
              id="topic-filter"
              placeholder="all, or a filter such as home/#"
              value={topic}
              onChange={(event) => choose({ topic: event.currentTarget.value.trim() })}
            />
          </label>
        </p>
        <Waiting of={found} what="The quarantine" />
        {data !== undefined && (
          <>
            <p>
              <b>{countText(data.count)}</b> in all.
            </p>
            {data.count > 0 && <DecodeAgain topic={topic} onDone={found.reload} />}
            <ul id="reasons">
              {data.reasons.slice(0, 8).map(({ reason, count }) => (
                <li key={reason}>
                  {countText(count)} × <bdi>{plain(reason)}</bdi>
                </li>
              ))}
            </ul>
            {data.items.length > 0 && (
              <Table
                label="Messages in quarantine"
                heads={['Received', 'Gateway', 'Topic', 'Reason', 'Payload']}
                rows={data.items.map((item) => [
                  agoText(item.receivedMs, Date.now()),
                  item.gateway,
                  item.topic,
                  item.reason,
                  { text: payloadText(item.payload, item.encoding), isPayload: true },
                ])}
              />
            )}
          </>
        )}
      </Panel>
      {data !== undefined && data.count > 0 && (
        <Panel title="A mapping on trial">
          <TryMapping key={first} topic={first} />
        </Panel>
      )}
    </>
  );
}
