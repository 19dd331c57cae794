/**
 * A power cut by hand. `--cut` publishes and says on standard output what was acknowledged, a line a hundred milliseconds:
 * over SSH that is another machine's record, and the disk that is cut has no part in it. `--after` reads that record and asks the
 * gateway, started on the same folder, for every number in it.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readUserFile } from '../../shared/config/user-file.ts';
import { HeadwaterError, messageOf } from '../../shared/errors.ts';
import { startGateway, type Launch } from './child.ts';
import { compare, type Verdict } from './held.ts';
import { Load } from './load.ts';

/** In the folder that is named: it must outlast the cut, so it has a fixed name. */
const FOLDER = 'headwater-prove-cut';
const LINE_MS = 100;
/** A thousand a second for seven minutes; all of it is within what one query reads. */
const MESSAGES = 400_000;
const EVERY_MS = 1;
const LINE = /^acknowledged up to (\d+)$/;

/** Throws USAGE when an earlier cut has not been looked at. */
export async function cut(launch: Launch, folder: string): Promise<void> {
  const data = join(folder, FOLDER);
  if (existsSync(data))
    throw new HeadwaterError(
      'USAGE',
      `${data} is there from an earlier cut: look at it with headwater prove --after FILE, or delete it`,
    );
  const gateway = await startGateway(launch, data);
  const load = new Load();
  process.stdout.write(
    `Keep these lines on another machine (ssh HOST headwater prove --cut | tee acknowledged.txt). Pull the plug when you like.\n`,
  );
  // PUBACKs come in the order of their messages [MQTT-4.6.0-2]: the greatest stands for all before it.
  let said = -1;
  const timer = setInterval(() => {
    const highest = load.acknowledged.size - 1;
    if (highest > said) process.stdout.write(`acknowledged up to ${(said = highest)}\n`);
  }, LINE_MS);
  await load.run(
    gateway,
    { padBytes: 0, everyMs: EVERY_MS, count: MESSAGES },
    new Promise(() => undefined),
  );
  clearInterval(timer);
  process.stdout.write(`acknowledged up to ${load.acknowledged.size - 1}\n`);
  await gateway.kill();
  process.stdout.write(`All ${MESSAGES} messages are published: cut the power now.\n`);
}

/** Throws INPUT_FILE for a record that cannot be read or has no line; USAGE when there was no cut here. */
export async function after(launch: Launch, folder: string, record: string): Promise<Verdict> {
  const data = join(folder, FOLDER);
  let text: string;
  try {
    text = readUserFile(record).toString();
  } catch (error) {
    throw new HeadwaterError('INPUT_FILE', `--after: ${messageOf(error)}`, { cause: error });
  }
  // A line that the cut has torn is none.
  const highest = text
    .split('\n')
    .slice(0, -1)
    .reduce((best, line) => Math.max(best, Number(LINE.exec(line.trim())?.[1] ?? -1)), -1);
  if (highest < 0)
    throw new HeadwaterError(
      'INPUT_FILE',
      `${record} has no line 'acknowledged up to N': it is what headwater prove --cut printed`,
    );
  const acknowledged = new Set(Array.from({ length: highest + 1 }, (_, n) => n));
  // A folder that the cut took with it is a loss like any other: a gateway begins anew there, and has nothing.
  const gateway = await startGateway(launch, data);
  try {
    return await compare(gateway, acknowledged);
  } finally {
    await gateway.kill();
  }
}
