/** Batches, lake, and how the collector itself is. */
import { Panel, Table, Waiting, momentCell, type Cell } from './parts.tsx';
import { agoText, bytesText, countText, spanText } from './series.ts';
import { useLoad } from './store.ts';

const REFRESH_MS = 5000;
/** The whole lake is counted for it. */
const SLOW_MS = 30_000;

function Stages() {
  const stages = useLoad('/api/v1/stages', REFRESH_MS);
  const nowMs = Date.now();
  return (
    <Panel title="Stages">
      <Waiting of={stages} what="The list of stages" />
      {stages.data !== undefined && (
        <Table
          label="Stages"
          heads={[
            'Stage',
            'State',
            'Records that wait',
            'Put into quarantine',
            'What it waits for',
          ]}
          rows={stages.data.stages.map((each) => [
            each.name,
            { text: each.state, level: each.state === 'works' ? 'good' : 'bad' },
            each.waitingRecords === null ? 'not known' : countText(each.waitingRecords),
            countText(each.asideRecords),
            each.state === 'works'
              ? '–'
              : `${each.waitsFor ?? ''} ${each.sinceMs === undefined ? '' : `since ${spanText(nowMs - each.sinceMs)}`}: ${each.reason ?? ''}`,
          ])}
        />
      )}
    </Panel>
  );
}

export function StatusView() {
  const status = useLoad('/api/v1/status', REFRESH_MS);
  return (
    <>
      <Stages />
      <Panel title="Collector">
        <Waiting of={status} what="The status" />
        {status.data !== undefined && (
          <>
            <dl>
              <dt>Log</dt>
              <dd>{status.data.log}</dd>
              <dt>Store</dt>
              <dd>{status.data.store ?? 'none here'}</dd>
            </dl>
            {status.data.warnings.length === 0 ? (
              <p class="good">No warnings.</p>
            ) : (
              <Table
                label="Warnings"
                heads={['Warning']}
                rows={status.data.warnings.map((text) => [{ text, level: 'warn' }])}
              />
            )}
          </>
        )}
      </Panel>
    </>
  );
}

/** One that is due is begun within seconds. */
const dueOf = (next: number | null): Cell =>
  next === null ? '–' : next <= Date.now() ? 'due now' : momentCell(next);

export function LakeView() {
  const lake = useLoad('/api/v1/lake', SLOW_MS);
  const jobs = useLoad('/api/v1/batch', REFRESH_MS);
  const { data } = lake;
  return (
    <>
      <Panel title="Lake">
        <Waiting of={lake} what="The lake" />
        {data !== undefined && (
          <>
            <p>
              Parquet under <code>{data.address}</code>;{' '}
              <span class={data.damages.length > 0 ? 'bad' : 'good'}>
                {data.damages.length === 0 ? 'no damage known' : `${data.damages.length} damages`}
              </span>
              {data.checked?.endedMs === undefined
                ? ''
                : `, last checked whole ${agoText(data.checked.endedMs, Date.now())}`}
              .
            </p>
            <Table
              label="Zones of the lake"
              heads={['Zone', 'Files', 'Size', 'Rows', 'Gateways', 'Days']}
              rows={data.zones.map(({ zone, files, bytes, rows, gateways, from, to }) => [
                zone,
                countText(files),
                bytesText(bytes),
                countText(rows),
                countText(gateways),
                from ? `${from} – ${to}` : '–',
              ])}
            />
          </>
        )}
      </Panel>
      <Panel title="Batches">
        <Waiting of={jobs} what="The list of batch jobs" />
        {jobs.data !== undefined && (
          <Table
            label="Batch jobs"
            heads={['Job', 'What it makes', 'When', 'Next']}
            rows={jobs.data.jobs.map(({ name, about, schedule, next }) => [
              name,
              about,
              schedule ?? 'on demand',
              dueOf(next),
            ])}
          />
        )}
      </Panel>
    </>
  );
}
