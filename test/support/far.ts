/** The collector's end of the uplink in this process, over real TCP. */
import { CollectorClock } from '../../collector/ingest/clock.ts';
import { Ingest, type IngestOptions } from '../../collector/ingest/ingest.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { topics } from '../../collector/log/topics.ts';
import { TOPIC_RAW, type Log } from '../../collector/log/log.ts';
import { FailureLimiter } from '../../shared/access/failures.ts';
import { realEnv } from '../../shared/env/env.ts';
import { KIND_RECORDS, checkFrame, readRecords } from '../../shared/frame/frame.ts';
import { temporaryFolder } from './process.ts';

const MIB = 1024 * 1024;
const env = realEnv();

export interface Far {
  log: Log;
  ingest: Ingest;
  port: number;
  /** Payloads in the raw log by identity, and how many records hold them. */
  arrived(): Promise<{ identities: Set<string>; payloads: string[]; records: number }>;
}

/** A collector's end of the uplink on a log of its own. `cleanups` get how to end it. */
export async function far(
  cleanups: (() => Promise<void>)[],
  more: Partial<IngestOptions> = {},
): Promise<Far> {
  const log = new EmbeddedLog(
    { folder: temporaryFolder(), cacheBytes: MIB, topics: topics(Infinity), now: () => Date.now() },
    () => undefined,
  );
  await log.open();
  const clock = new CollectorClock({
    env,
    notify: () => undefined,
    trusted: false,
    notBeforeMs: 0,
  });
  clock.compare(0);
  const ingest = new Ingest(
    env,
    {
      mqtt: {
        connectBytesMax: 4096,
        packetBytesMax: 5 * MIB,
        clientIdBytesMax: 80,
        filtersMax: 10,
      },
      server: { connectionsMax: 100, connectionsPerAddressMax: 100, connectTimeoutMs: 5000 },
      begunBytesMax: 16 * MIB,
      pendingBytesMax: 8 * MIB,
      secret: undefined,
      needsCertificate: false,
      reserved: 'collector',
      enrolled: undefined,
      failures: new FailureLimiter(1000, () => env.clock.monotonicUs()),
      audit: undefined,
      refuse: () => undefined,
      clock,
      ...more,
    },
    log,
    undefined,
    () => undefined,
  );
  await ingest.start();
  const { port } = await ingest.server.listen({ host: '127.0.0.1', port: 0 }, '--uplink');
  cleanups.push(async () => {
    await ingest.close();
    await log.close();
  });
  return {
    log,
    ingest,
    port,
    arrived: async () => {
      const consumer = await log.consumer({
        group: `count-${Math.random()}`,
        topic: TOPIC_RAW,
        from: 'start',
        bytesMax: 64 * MIB,
      });
      const identities = new Set<string>();
      const payloads: string[] = [];
      let records = 0;
      for (let batch = await consumer.poll(10); batch.length > 0; batch = await consumer.poll(10)) {
        for (const { value } of batch) {
          const header = checkFrame(value);
          if (header.kind !== KIND_RECORDS) continue;
          records++;
          for (const { sequence, payload } of readRecords(value, header)) {
            const identity = `${header.epoch}/${sequence}`;
            if (!identities.has(identity)) payloads.push(payload.toString());
            identities.add(identity);
          }
        }
      }
      await consumer.close();
      return { identities, payloads, records };
    },
  };
}
