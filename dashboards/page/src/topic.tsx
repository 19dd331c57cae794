/** One topic: its last messages as they came, what each becomes or why nothing, and a mapping on trial over them. */
import { useExplained, type Explained } from './explain.tsx';
import { cameMs, madeText, type Made, type Message } from './messages.ts';
import { Lines, Panel, Table, momentCell, type Cell } from './parts.tsx';
import type { Quarantine } from './quarantine.tsx';
import { hashOf } from './route.ts';
import { fieldOf, keyOf, momentText, plain, valueText, type Series } from './series.ts';
import { state, useLoad } from './store.ts';
import { DecodeAgain, TryMapping, payloadText, type Kept } from './trial.tsx';

export interface Topic {
  topic: string;
  /** Of the newest that is known of it. */
  time: number;
  /** The last one, as it came. */
  message?: Message;
  series: Series[];
  refused: Quarantine['items'];
}

const EVERY_MS = 2000;
const SHOWN = 20;

interface Last {
  message: Kept;
  about: string;
}

function Payload({ message, about }: Last) {
  const isText = message.encoding === 'utf8';
  return (
    <Lines
      title={`${about}${isText ? '' : ', as base64: it is no text'}`}
      text={message.payload.split('\n').map(plain).join('\n')}
    />
  );
}

/** Of what is not at the end of the log any more: quarantine has it, or its reading knows it. */
function lastKept(
  { refused }: Topic,
  newest: Series | undefined,
  answer: Explained | undefined,
): Last | undefined {
  const [kept] = refused;
  const given = answer?.points[0]?.message;
  if (kept !== undefined && (newest === undefined || kept.receivedMs >= newest.time))
    return {
      message: { payload: kept.payload, encoding: kept.encoding },
      about: `The last message, of ${momentText(kept.receivedMs)}, in quarantine`,
    };
  if (typeof given?.payload !== 'string' || newest === undefined) return undefined;
  return {
    message: { payload: given.payload, encoding: given.encoding ?? 'utf8' },
    about: `The last message, of ${momentText(newest.time)}, as it came`,
  };
}

const lastOf = (message: Message): Last => ({
  message,
  about: `The last message, of ${momentText(cameMs(message))}, as it came${message.isWhole ? '' : `: the beginning of ${message.bytes} bytes`}`,
});

const readingRows = ({ readings }: Made): Cell[][] =>
  readings.flatMap(({ measurement, tags, fields, timeMs }) =>
    Object.entries(fields).map(([field, value]): Cell[] => {
      const key = keyOf(measurement, tags, field);
      const known = state.series.get(key);
      return [
        known === undefined
          ? measurement
          : { text: measurement, href: hashOf('sensors', { s: key }) },
        fieldOf({ field, value }),
        valueText(value, known?.unit),
        momentCell(timeMs),
      ];
    }),
  );

const seriesRows = (made: readonly Series[]): Cell[][] =>
  made.map((each) => [
    { text: each.measurement, href: hashOf('sensors', { s: each.key }) },
    fieldOf(each),
    valueText(each.value, each.unit),
    momentCell(each.time),
  ]);

function Became({ made, series }: { made: Made | undefined; series: readonly Series[] }) {
  const rows = made === undefined ? seriesRows(series) : readingRows(made);
  return (
    <>
      {made?.told.map((each) => (
        <p key={each} class="warn">
          <bdi>{plain(each)}</bdi>
        </p>
      ))}
      {rows.length > 0 && (
        <>
          <h3>What it became</h3>
          <Table
            label="What it became"
            heads={['Measurement', 'Field', 'Value', 'At']}
            rows={rows}
          />
        </>
      )}
      {rows.length === 0 && made?.told.length === 0 && (
        <p class="quiet">
          It became no reading: it holds no value, or a mapping says that it is none.
        </p>
      )}
    </>
  );
}

function Before({ messages }: { messages: readonly Message[] }) {
  return messages.length < 2 ? null : (
    <>
      <h3>Its last {messages.length} messages</h3>
      <Table
        label="Last messages"
        heads={['Came', 'Client', 'QoS', 'Payload', 'What it became']}
        rows={messages.map((each) => [
          momentCell(cameMs(each)),
          each.client,
          `${each.qos}${each.retain ? ', retained' : ''}`,
          { text: payloadText(each.payload, each.encoding), isPayload: true },
          each.made === null
            ? '–'
            : { text: madeText(each.made), level: each.made.told.length === 0 ? '' : 'warn' },
        ])}
      />
    </>
  );
}

export function OneTopic({ one, onDone }: { one: Topic; onDone: () => void }) {
  const { topic, series: made, refused } = one;
  const { data, error } = useLoad('/api/v1/messages', EVERY_MS, { topic, limit: SHOWN });
  const messages = data?.messages ?? [];
  const [newestMessage] = messages;
  const isElsewhere = error !== '' || (data !== undefined && messages.length === 0);
  const newest = made.reduce<Series | undefined>(
    (best, each) => (best === undefined || each.time > best.time ? each : best),
    undefined,
  );
  const { answer, said } = useExplained(isElsewhere ? newest : undefined, newest?.time);
  const last = newestMessage === undefined ? lastKept(one, newest, answer) : lastOf(newestMessage);
  const [why] = refused;
  const isWaiting = !isElsewhere && data === undefined;
  return (
    <Panel title={plain(topic)}>
      {last === undefined ? (
        <p class="quiet" role="status">
          {isWaiting || said !== ''
            ? plain(said || 'loading …')
            : made.length === 0
              ? 'No message of this topic has come, as far as the log goes back.'
              : 'The bytes of its last message are not shown to this token.'}
        </p>
      ) : (
        <Payload message={last.message} about={last.about} />
      )}
      {why !== undefined && (
        <p class="warn">
          In quarantine ({refused.length} of the newest messages): <bdi>{plain(why.reason)}</bdi>
        </p>
      )}
      <Became made={newestMessage?.made ?? undefined} series={made} />
      <Before messages={messages} />
      <h3>Another mapping, on trial over {messages.length > 1 ? 'them' : 'it'}</h3>
      <TryMapping
        key={`${topic} ${last === undefined ? '' : 'known'}`}
        topic={topic}
        begin={last?.message.payload ?? ''}
        {...(newestMessage === undefined && last !== undefined ? { messages: [last.message] } : {})}
      />
      <DecodeAgain topic={topic} which="all" onDone={onDone} />
    </Panel>
  );
}
