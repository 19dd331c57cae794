/** A log on another machine that is away at a start: everything else opens, and it is there when it comes. */
import { describe, expect, it } from 'vitest';
import { AwaitedLog } from '../../collector/log/awaited.ts';
import { EmbeddedLog } from '../../collector/log/embedded.ts';
import { Follower } from '../../collector/log/follow.ts';
import { TOPIC_LEDGER, type Log, type LogRecord } from '../../collector/log/log.ts';
import { topics } from '../../collector/log/topics.ts';
import { View } from '../../collector/log/view.ts';
import { HeadwaterError } from '../../shared/errors.ts';
import { fastTime } from '../support/fast-time.ts';
import { temporaryFolder, until } from '../support/process.ts';

const RECORD: LogRecord = { key: 'a', value: Buffer.from('1'), headers: {} };
const away = (): HeadwaterError => new HeadwaterError('LOG_UNAVAILABLE', 'nobody is there');

/** The real log, whose opening is `opening` first. */
class Late extends EmbeddedLog {
  private readonly opening: () => Promise<void>;

  constructor(folder: string, opening: () => Promise<void>) {
    super(
      { folder, cacheBytes: 1 << 20, topics: topics(1 << 20), retired: [], now: Date.now },
      () => undefined,
    );
    this.opening = opening;
  }

  override async open(): Promise<void> {
    await this.opening();
    await super.open();
  }
}

function trial(opening: () => Promise<void>, factor = 20) {
  const folder = temporaryFolder();
  const said: string[] = [];
  let made = 0;
  const log = new AwaitedLog({
    address: 'other://there',
    make: () => {
      made++;
      return Promise.resolve(new Late(folder, opening));
    },
    notify: ({ event, text }) => said.push(`${event}: ${text}`),
    time: fastTime(factor),
  });
  return { log, said, made: () => made };
}

const questions = (log: Log): Record<string, Promise<unknown>> => ({
  append: log.append(TOPIC_LEDGER, [RECORD]),
  consumer: log.consumer({ group: 'g', topic: TOPIC_LEDGER, from: 'start', bytesMax: 1 }),
  state: log.state(TOPIC_LEDGER, 0, ''),
  watch: log.watch(TOPIC_LEDGER, () => undefined),
  forget: log.forget('g'),
  first: log.first?.(TOPIC_LEDGER, 0) ?? Promise.resolve(),
  next: log.next?.(TOPIC_LEDGER, 0) ?? Promise.resolve(),
  committedBy: log.committedBy?.('g', TOPIC_LEDGER) ?? Promise.resolve(),
  groupNames: log.groupNames?.() ?? Promise.resolve(),
});

describe('a log that is away at a start', () => {
  it('is waited for: until it is there every question to it is refused with the reason, and it says so once', async () => {
    let isThere = false;
    const { log, said, made } = trial(() => (isThere ? Promise.resolve() : Promise.reject(away())));
    await log.open();
    for (const [name, answer] of Object.entries(questions(log)))
      await expect(answer, name).rejects.toMatchObject({
        code: 'LOG_UNAVAILABLE',
        message: 'the log is not open yet: nobody is there',
      });
    expect(log.health()).toMatchObject({ up: false, reason: 'nobody is there' });
    expect([log.groups(), log.warnings(), log.partitions]).toEqual([[], [], 1]);
    await until('three tries', () => made() >= 3 || undefined);
    expect(said).toEqual([
      expect.stringMatching(
        /^log_down: the log at other:\/\/there cannot be used: nobody is there; it is tried again.*gateways keep/,
      ),
    ]);
    isThere = true;
    await log.opened;
    expect(said[1]).toMatch(/^log_up: the log at other:\/\/there answers, after \d+ s$/);
    await log.append(TOPIC_LEDGER, [RECORD]);
    expect(await log.state(TOPIC_LEDGER, 0, '')).toHaveLength(1);
    expect(log.kind).toBe('embedded');
    // What this log has not it has not here either.
    const { first, groupNames, hasLost }: Log = log;
    expect([typeof first, typeof groupNames]).toEqual(['function', 'undefined']);
    expect(hasLost?.('ledger')).toBe(false);
    expect(log.health().up).toBe(true);
    await log.close();
  });

  it('that gives no answer at all holds up a start for five seconds at most, and is there when it answers', async () => {
    let answer: () => void = () => undefined;
    const { log, said } = trial(
      () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    );
    const began = performance.now();
    await log.open();
    expect(performance.now() - began).toBeLessThan(5000);
    expect(said).toEqual([expect.stringContaining('it has given no answer in 5 s')]);
    answer();
    await log.opened;
    expect(log.health().up).toBe(true);
    await log.close();
  });

  it('a reason that changes is told again, and one that lasts once a minute', async () => {
    let why = 'first';
    const { log, said } = trial(
      () => Promise.reject(new HeadwaterError('LOG_UNAVAILABLE', why)),
      400,
    );
    await log.open();
    await until('it to be told again', () => said.length >= 2 || undefined);
    why = 'second';
    await until('the other reason', () => said.at(-1)?.includes('second') || undefined);
    expect(log.health().reason).toBe('second');
    expect(said.filter((text) => text.includes('first')).length).toBeLessThanOrEqual(3);
    await log.close();
  });

  it.each([
    ['CONFIG_INVALID', 'a setting that is not accepted'],
    ['ADAPTER_MISSING', 'a package that is not there'],
  ] as const)('%s ends the start: waiting does not mend it', async (code, text) => {
    const { log } = trial(() => Promise.reject(new HeadwaterError(code, text)));
    await expect(log.open()).rejects.toMatchObject({ code });
    await log.close();
  });

  it('is tried no more once it is closed, also while it is being opened', async () => {
    const trials = trial(() => Promise.reject(away()));
    await trials.log.open();
    await trials.log.close();
    const before = trials.made();
    await new Promise((resolve) => setTimeout(resolve, 600));
    expect(trials.made()).toBe(before);

    let answer: () => void = () => undefined;
    const slow = trial(
      () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    );
    await slow.log.open();
    const closing = slow.log.close();
    answer();
    await closing;
    expect(slow.log.health().up).toBe(false);
  });
});

describe('a view of such a log', () => {
  it('lets the start go on, says that it knows nothing yet, and knows it when the log comes', async () => {
    let isThere = false;
    const { log } = trial(() => (isThere ? Promise.resolve() : Promise.reject(away())));
    await log.open();
    const seen: string[] = [];
    const view = new View(log, TOPIC_LEDGER, 'the ledger');
    await view.start((records) => seen.push(...records.map(({ key }) => key)));
    expect(() => view.check()).toThrow(
      /^the ledger is not known yet: it is read from the log, and nobody is there$/,
    );
    isThere = true;
    await log.opened;
    await log.append(TOPIC_LEDGER, [RECORD]);
    await view.whenRead;
    view.check();
    await until('the record', () => seen.includes('a') || undefined);
    await view.close();
    await log.close();
  });

  it('of a log that is there is whole when it has started', async () => {
    const { log } = trial(() => Promise.resolve());
    await log.open();
    await log.append(TOPIC_LEDGER, [RECORD]);
    const seen: string[] = [];
    const view = new View(log, TOPIC_LEDGER, 'the ledger');
    await view.start((records) => seen.push(...records.map(({ key }) => key)));
    expect(view.isRead).toBe(true);
    expect(seen).toEqual(['a']);
    await view.close();
    await log.close();
  });

  it('what cannot be read while it starts ends the start, if that is no trouble of the log', async () => {
    const { log } = trial(() => Promise.resolve());
    await log.open();
    await log.append(TOPIC_LEDGER, [RECORD]);
    const view = new View(log, TOPIC_LEDGER, 'it');
    const bug = (): never => {
      throw new TypeError('a bug');
    };
    await expect(view.start(bug)).rejects.toThrow('a bug');
    await view.close();
    await log.close();
  });

  it('who follows it tells nothing of its own while the log says for itself that it is away', async () => {
    let isThere = false;
    const { log } = trial(() => (isThere ? Promise.resolve() : Promise.reject(away())));
    await log.open();
    const said: string[] = [];
    const follower = new Follower({
      log,
      notify: ({ text }) => said.push(text),
      event: 'view',
      topic: TOPIC_LEDGER,
      from: 'start',
      group: 'g',
      onRecords: () => undefined,
    });
    isThere = true;
    await follower.caughtUp;
    expect(said).toEqual([]);
    await follower.close();
    await log.close();
  });
});
