/** Bit flips at random offsets of every kind of file, between stop and start: none changes or hides a reading unreported. */
import { cpSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openBuffer } from '../../gateway/buffer/open.ts';
import type { MessageBuffer } from '../../gateway/buffer/buffer.ts';
import { realEnv } from '../../shared/env/env.ts';
import { KIND_RECORDS, checkFrame, readRecords } from '../../shared/frame/frame.ts';
import { LevelDatabase } from '../../shared/kv/classic-level.ts';
import { temporaryFolder } from '../support/process.ts';
import { Site, type Chance, type Result } from './site.ts';

const MESSAGES = 600;
const MIB = 1024 * 1024;

async function open(folder: string): Promise<{ buffer: MessageBuffer<number>; notices: string[] }> {
  const notices: string[] = [];
  const buffer = await openBuffer<number>(
    realEnv(),
    {
      folder,
      gateway: 'gw',
      diskBytesMax: 256 * MIB,
      reserveBytes: MIB,
      historyBytesMax: MIB,
      policy: 'block',
      frameBytes: 512,
      pendingBytesMax: MIB,
      cacheBytes: 64 * 1024,
      compress: false,
    },
    {
      onDurable: () => undefined,
      onFrame: () => undefined,
      onRelief: () => undefined,
      onNotice: ({ event, text }) => notices.push(`${event}: ${text}`),
    },
  );
  return { buffer, notices };
}

/** A buffer with tables, a log and notes, made once and copied for each flip. */
async function original(): Promise<string> {
  const folder = temporaryFolder();
  for (let life = 0; life < 2; life++) {
    const { buffer } = await open(folder);
    for (let i = 0; i < MESSAGES / 2; i++) {
      const payload = Buffer.from(`${life * (MESSAGES / 2) + i}`.padEnd(40, '.'));
      buffer.append(
        { client: 'c', topic: 't', qos: 1, retain: false, dup: false, payload },
        undefined,
      );
      if (i % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await buffer.close();
    if (life === 1) continue;
    const db = new LevelDatabase(join(folder, 'buffer'));
    await db.open();
    await db.compact(Buffer.from('a'), Buffer.from('z'));
    await db.close();
  }
  return folder;
}

let made: Promise<string> | undefined;

function flip(path: string, chance: Chance): string {
  const bytes = readFileSync(path);
  const at = Math.floor(chance() * bytes.length);
  const bit = Math.floor(chance() * 8);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
  writeFileSync(path, bytes);
  return `bit ${bit} at ${at}`;
}

/** One flip in one file of a buffer. Everything is there, unchanged, or a loss was reported. */
export async function flipInBuffer(chance: Chance): Promise<Result> {
  made ??= original();
  const folder = temporaryFolder();
  cpSync(await made, folder, { recursive: true });
  try {
    const database = join(folder, 'buffer');
    const files = readdirSync(database)
      .map((name) => join(database, name))
      .filter(
        (path) => statSync(path).size > 0 && !path.endsWith('/LOG') && !path.endsWith('/LOG.old'),
      );
    const file = files.sort()[Math.floor(chance() * files.length)] ?? '';
    const where = `${file.slice(database.length + 1)} ${flip(file, chance)}`;
    const { buffer, notices } = await open(folder);
    const found = new Map<string, number>();
    let reported = 0;
    let unbounded = 0;
    for (let from: Buffer | undefined; ; ) {
      const frames = await buffer.read(from, 64 * 1024).catch(async () => {
        await new Promise((resolve) => setTimeout(resolve, 50));
        return undefined;
      });
      if (frames === undefined) continue;
      for (const { frame } of frames) {
        const header = checkFrame(frame);
        if (header.kind === KIND_RECORDS)
          for (const { payload } of readRecords(frame, header))
            found.set(payload.toString(), (found.get(payload.toString()) ?? 0) + 1);
      }
      if (frames.length === 0) break;
      from = frames.at(-1)?.end;
    }
    for (const notice of notices) if (notice.startsWith('loss')) reported++;
    for (const notice of notices) if (/whole frames|log record/.test(notice)) unbounded++;
    await buffer.close();
    let lost = 0;
    for (let i = 0; i < MESSAGES; i++) if (!found.has(`${i}`.padEnd(40, '.'))) lost++;
    const extra = [...found.values()].reduce((sum, count) => sum + count - 1, 0);
    const foreign = [...found.keys()].filter((text) => {
      const number = Number(/^\d+/.exec(text)?.[0] ?? -1);
      return text !== `${number}`.padEnd(40, '.') || number >= MESSAGES;
    }).length;
    const hidden = lost > 0 && reported === 0;
    return {
      fired: true,
      acknowledged: MESSAGES,
      lost: hidden ? lost : 0,
      extra,
      differing: foreign,
      ...(hidden || extra > 0 || foreign > 0
        ? { note: `${where}: ${lost} lost, ${reported} reports, ${unbounded} of damage` }
        : {}),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One flip in each of a few files of a whole site that was stopped: gateway's and collector's. */
export async function flipInSite(chance: Chance): Promise<Result> {
  const site = new Site();
  try {
    await site.start();
    await site.load(4000);
    await site.reconcile(true);
    await site.load(4000);
    await site.gateway?.kill('SIGTERM');
    await site.collector?.kill('SIGTERM');
    const folders = [
      join(site.gatewayFolder, 'buffer'),
      join(site.collectorFolder, 'log'),
      join(site.collectorFolder, 'store'),
    ];
    const files = folders.flatMap((folder) =>
      readdirSync(folder)
        .map((name) => join(folder, name))
        .filter((path) => statSync(path).size > 0 && !/\/LOG(\.old)?$/.test(path)),
    );
    const file = files.sort()[Math.floor(chance() * files.length)] ?? '';
    const where = `${file} ${flip(file, chance)}`;
    await site.startCollector();
    await site.startGateway();
    await site.load(400);
    const result = await site.reconcile(true, true);
    const said = `${site.collector?.output() ?? ''}${site.gateway?.output() ?? ''}`;
    if (result.lost > 0 && /lost|damage|set aside/i.test(said)) result.lost = 0;
    return result.lost + result.extra + result.differing > 0 ? { ...result, note: where } : result;
  } finally {
    await site.stop();
  }
}
