/** What could not be read is kept: why, a mapping on trial, and decoding it again. */
import { useRef } from 'preact/hooks';
import type { Answer } from '../../../shared/http/client.ts';
import { Lines, Panel, Table, Waiting, agoCell } from './parts.tsx';
import { choose, hashOf, type Place } from './route.ts';
import { countText, plain } from './series.ts';
import { useLoad } from './store.ts';
import { DecodeAgain, TryMapping, payloadText } from './trial.tsx';

export type Quarantine = Answer<'/api/v1/quarantine'>;

export function QuarantineView({ place }: { place: Place }) {
  const topic = place.choices.get('topic') ?? '';
  const asked = { limit: 100, ...(topic === '' ? {} : { topic }) };
  const found = useLoad('/api/v1/quarantine', 5000, asked);
  const { data } = found;
  // A mapping that one is writing stays, whatever comes in meanwhile.
  const first = useRef({ filter: topic, topic: '' });
  if (first.current.filter !== topic || first.current.topic === '')
    first.current = { filter: topic, topic: data?.items[0]?.topic ?? '' };
  return (
    <>
      <Panel title="Quarantine: messages that could not be decoded or stored">
        <p>They are kept: mend the mapping, then decode them again.</p>
        <p class="controls">
          <label>
            Topic{' '}
            <input
              id="topic-filter"
              size={30}
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
            {data.count === 0 && (
              <Lines
                title="Nothing is here. To see what would be"
                text={`npx --no-install headwater publish broken/device '{"temperature":'`}
              />
            )}
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
                  agoCell(item.receivedMs),
                  item.gateway,
                  { text: item.topic, href: hashOf('topics', { t: item.topic }) },
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
          <TryMapping key={first.current.topic} topic={first.current.topic} />
        </Panel>
      )}
    </>
  );
}
