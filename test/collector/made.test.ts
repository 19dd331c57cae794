/** Which measurements are results is known in every process of the log, whoever runs the rules and jobs. */
import { expect, it } from 'vitest';
import { SeriesMeta } from '../../collector/api/series-meta.ts';
import { MadeKeeper } from '../../collector/ledger/made.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { TOPIC_LEDGER, type LogRecord } from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import { realEnv, type Env } from '../../shared/env/env.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { fastTime } from '../support/fast-time.ts';
import { temporaryFolder, until } from '../support/process.ts';

/** One that takes nothing as long as it is told so, and counts what is noted in the ledger. */
class Watched extends EmbeddedLog {
  refuses = false;
  noted = 0;

  override async append(topic: string, records: LogRecord[]): Promise<void> {
    if (this.refuses) throw new HeadwaterError('LOG_UNAVAILABLE', 'not now');
    if (topic === TOPIC_LEDGER) this.noted += records.length;
    await super.append(topic, records);
  }
}

it('results are told by the log, each time other ones are made, and again when it could not take them', async () => {
  const folder = temporaryFolder();
  const log = new Watched(
    { folder, cacheBytes: 1 << 20, topics: topics(Infinity), now: () => Date.now() },
    () => undefined,
  );
  await log.open();
  const said: string[] = [];
  const env: Env = { ...realEnv(), ...fastTime(50) };
  const keeperOf = (by: 'stream' | 'batch'): MadeKeeper =>
    new MadeKeeper(by, log, env, ({ text }) => void said.push(text));
  const [rules, jobs] = [keeperOf('stream'), keeperOf('batch')];
  const meta = new SeriesMeta(log);
  await meta.start();
  const knows = (...names: string[]): Promise<unknown> =>
    until(
      `${names.join(', ')} to be known`,
      () => JSON.stringify(meta.made.list()) === JSON.stringify(names) || undefined,
    );
  try {
    await rules.keep([
      { measurement: 'hourly' },
      { measurement: 'daily' },
      { measurement: 'hourly' },
    ]);
    await jobs.keep([{ measurement: 'week' }, { measurement: 'daily' }]);
    await knows('daily', 'hourly', 'week');
    // Read anew, and the same: there is nothing to say.
    await rules.keep([{ measurement: 'daily' }, { measurement: 'hourly' }]);
    expect(log.noted).toBe(2);
    expect(said).toEqual([]);
    log.refuses = true;
    await rules.keep([{ measurement: 'monthly' }]);
    expect(said).toEqual([
      'which measurements are results (stream) cannot be noted in the log now: not now',
    ]);
    log.refuses = false;
    await knows('daily', 'monthly', 'week');
    await rules.keep([]);
    await knows('daily', 'week');
    // One that starts later knows it as well.
    const later = new SeriesMeta(log);
    await later.start();
    expect(later.made.list()).toEqual(['daily', 'week']);
    await later.close();
  } finally {
    await rules.close();
    await jobs.close();
    await meta.close();
    await log.close();
  }
});
