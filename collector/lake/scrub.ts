/**
 * Looks at the whole lake from time to time: at each manifest, at what manifests and store have of each other, and at the
 * checksum of each file. It rests 110 times as long as it works: less than 1 % of a core. It goes round
 * again after a pause. What it finds is for `check.ts` to set aside and for `heal.ts` to make again.
 */
import { Rest, processTimers } from '../../shared/env/timers.ts';
import { codeOf, isBug, messageOf } from '../../shared/errors.ts';
import type { Notify } from '../../shared/telemetry/log.ts';
import { adopt, unlisted } from './adopt.ts';
import type { Lake } from './lake.ts';
import { ZONES, folderOf, type LakeFile, type Zone } from './layout.ts';
import { writerOf } from './manifest.ts';
import { removeMerged } from './past-merge.ts';
import type { Pass } from './pass.ts';
import { adoptPast, damagedPast, pastFound } from './past.ts';
import { remake } from './remake.ts';
import { filesWith } from './replace.ts';

/** Rest for each millisecond of work. */
const REST = 110;
const REST_MS_MAX = 60_000;
/** Between two rounds. */
const PAUSE_MS = { local: 600_000, elsewhere: 6 * 3_600_000 };
const RETRY_MS = 30_000;

export class Scrub {
  private readonly lake: Lake;
  private readonly notify: Notify;
  private readonly nowMs: () => number;
  private stopped = false;
  private readonly rests = new Rest(processTimers);
  private running: Promise<void> | undefined;
  private said = '';
  /** What a person asked for. */
  asked: { running: boolean; pass: Pass | null; failure?: string } = { running: false, pass: null };
  private answering: Promise<void> | undefined;
  /** Found without a manifest in an earlier round. */
  private readonly strange = new Set<string>();
  private readonly toldPast = new Set<string>();

  constructor(lake: Lake, notify: Notify, nowMs: () => number) {
    this.lake = lake;
    this.notify = notify;
    this.nowMs = nowMs;
  }

  /** Begins one at full speed, if none was asked for and still runs. */
  begin(): void {
    if (this.asked.running) return;
    this.asked = { running: true, pass: null };
    this.answering = this.pass()
      .then((pass) => void (this.asked = { running: false, pass }))
      .catch((error: unknown) => {
        this.asked = { running: false, pass: null, failure: messageOf(error) };
      });
  }

  /** What earlier processes found is known before anybody asks, where the lake can be read. */
  async start(): Promise<void> {
    const isKnown = await this.learn();
    this.running = this.loop(isKnown);
  }

  private async learn(): Promise<boolean> {
    try {
      await this.lake.check.learnAll();
      return true;
    } catch (error) {
      if (isBug(error)) throw error;
      return false; // The first pass says why.
    }
  }

  private async loop(isLearnt: boolean): Promise<void> {
    const pauseMs = this.lake.store.kind === 'local' ? PAUSE_MS.local : PAUSE_MS.elsewhere;
    let isKnown = isLearnt;
    while (!this.stopped) {
      let restMs = pauseMs;
      try {
        isKnown ||= await this.learn();
        await this.pass((workMs) => this.rest(Math.min(workMs * REST, REST_MS_MAX)));
        this.said = '';
      } catch (error) {
        // Whatever a library throws is no reason to end the process.
        if (isBug(error)) throw error;
        const text = `the lake could not be looked at: ${messageOf(error)}`;
        if (text !== this.said) this.notify({ level: 'warn', event: 'lake_scrub', text });
        this.said = text;
        restMs = RETRY_MS;
      }
      await this.rest(restMs);
    }
  }

  private async rest(ms: number): Promise<void> {
    if (!this.stopped) await this.rests.for(ms);
  }

  /** All of the lake once. Throws LAKE_UNAVAILABLE. */
  async pass(rest: (workMs: number) => Promise<void> = () => Promise.resolve()): Promise<Pass> {
    const { lake } = this;
    const before = lake.check.found;
    const pass = { startedMs: this.nowMs(), files: 0, bytes: 0, manifests: 0 };
    for (const zone of ZONES) {
      const begin = performance.now();
      for (const broken of await lake.catalog(zone).brokenOnes()) {
        await remake(lake, zone, broken);
        pass.manifests++;
      }
      const dates = new Set(await lake.catalog(zone).dates());
      const files = await lake.files(zone);
      for (const { date } of files) dates.add(date);
      await rest(performance.now() - begin);
      for (const date of [...dates].sort()) {
        const found = await this.day(zone, date, files, rest);
        pass.files += found.files;
        pass.bytes += found.bytes;
        if (this.stopped) break;
      }
    }
    const pastLost = await this.past(rest);
    const found = lake.check.found - before;
    const last = { ...pass, endedMs: this.nowMs(), found, pastLost };
    lake.check.last = last;
    if (lake.check.lost.size > 0) lake.check.onLost();
    return last;
  }

  /** What was so before: told once, since nothing has it a second time. Gives what is lost of it. */
  private async past(rest: (workMs: number) => Promise<void>): Promise<string[]> {
    const { lake } = this;
    const found = await pastFound(lake);
    await removeMerged(
      lake,
      found.merged.map(({ key }) => key),
    );
    // What is put this moment its writer's list has by the next round.
    const strays = found.unlisted.filter(({ key }) => this.strange.has(key));
    for (const { key } of found.unlisted) this.strange.add(key);
    await adoptPast(lake, strays);
    const damaged = await damagedPast(lake, found, rest);
    const told = (key: string, how: string): void => {
      if (this.toldPast.has(key)) return;
      this.toldPast.add(key);
      this.notify({
        level: 'error',
        event: 'lake_past_damaged',
        text: `the lake: ${key} is ${how}: what it held of readings that were corrected later is lost, and questions as of then say that they are in doubt; what is so now is not touched`,
      });
    };
    for (const key of damaged) told(key, 'damaged');
    for (const key of found.missing) told(key, 'missing');
    return [...damaged, ...found.missing];
  }

  private async day(
    zone: Zone,
    date: string,
    listed: readonly LakeFile[],
    rest: (workMs: number) => Promise<void>,
  ): Promise<{ files: number; bytes: number }> {
    const { lake } = this;
    let begin = performance.now();
    const before = listed.filter((file) => file.date === date);
    for (const entry of (await lake.catalog(zone).day(date)).entries.values())
      lake.check.learn(zone, entry);
    for (const entry of await lake.check.missing(zone, date, before))
      await lake.check.setAside(zone, entry, 'missing', 'it is not there');
    await lake.alone(zone, () => this.strays(zone, before));
    await this.resurrected(zone, date, before);
    await rest(performance.now() - begin);
    let bytes = 0;
    let files = 0;
    for (const file of before) {
      if (this.stopped) break;
      begin = performance.now();
      try {
        await lake.check.whole(file, 0);
        files++;
        bytes += file.bytes;
      } catch (error) {
        // Merged or replaced since it was listed: the next round has what became of it.
        if (codeOf(error) !== 'NOT_FOUND') throw error;
      }
      await rest(performance.now() - begin);
    }
    return { files, bytes };
  }

  /** Files that no manifest speaks of: of an older version, of a writer that was overtaken, or being written now. */
  private async strays(zone: Zone, files: readonly LakeFile[]): Promise<void> {
    const { lake } = this;
    const writers = new Set((await lake.catalog(zone).loadRoots()).keys());
    const strays: LakeFile[] = [];
    for (const file of await unlisted(lake, zone, files)) {
      const isAtWork = writers.has(writerOf(file.log, file.partition));
      // What a writer that is at work has put this moment, its manifest has by the next round.
      if (isAtWork && !this.strange.has(file.key)) this.strange.add(file.key);
      else if (!isAtWork || (await this.apart(zone, file))) strays.push(file);
    }
    const unreadable = await adopt(lake, zone, lake.check.writer, strays);
    for (const file of unreadable) await lake.check.unreadable(file);
  }

  /** Files all of whose rows others have, deleted and there again after a power cut. */
  private async resurrected(zone: Zone, date: string, files: readonly LakeFile[]): Promise<void> {
    const { lake } = this;
    const { entries } = await lake.catalog(zone).day(date);
    for (const { key } of files) if (entries.get(key)?.gone === 'emptied') await lake.remove(key);
  }

  /** Leaves in a file only what no other file has: whoever wrote it was overtaken. Whether there is something left. */
  private async apart(zone: Zone, file: LakeFile): Promise<boolean> {
    const { lake } = this;
    const path = await lake.check.whole(file, 0);
    if (path === undefined) return false;
    const { rows, spans } = await lake.parquet.facts(zone, path);
    const isItself = ({ key }: LakeFile): boolean => key === file.key;
    const where = { spans, dates: [file.date] };
    // Results have no sequences by which others could be found: all of the folder may have them.
    const others =
      zone === 'results'
        ? (await lake.folder(folderOf(zone, file.date, file.gateway))).filter(
            (each) => !isItself(each),
          )
        : await filesWith(lake, zone, file.gateway, where, isItself);
    const local = await lake.whole(others);
    if (local.size === 0) return true;
    const { rewritten, facts } = await lake.parquet.apart(zone, path, [...local.keys()]);
    await lake.using([rewritten], async () => {
      if (facts.rows === 0) await lake.remove(file.key);
      else if (facts.rows < rows) await lake.put(file.key, rewritten);
    });
    return facts.rows > 0;
  }

  async close(): Promise<void> {
    this.stopped = true;
    this.rests.wake();
    await this.running;
    await this.answering;
  }
}
