/**
 * Power cuts of a gateway: it runs in a guest, a client beside it writes every acknowledgement to the console when its bytes
 * have arrived, and the guest is cut. What the console has said must be on the image.
 */
import { join } from 'node:path';
import { temporaryFolder, until } from '../support/process.ts';
import { WITHOUT_SYNC, boot, copyFrom, makeDisk } from './guests.ts';
import { Site, wait, type Chance, type Result } from './site.ts';

async function trial(chance: Chance, preload: string): Promise<Result> {
  const base = temporaryFolder();
  const image = join(base, 'image');
  makeDisk(image, '256M');
  const site = new Site([], join(base, 'copy'));
  const node = process.execPath;
  const guest = boot({
    image,
    commands: (disk, top) => `${preload}${node} cli/bin.mjs gateway --data ${disk}/data \
--id gw-chaos --mqtt 127.0.0.1:1883 --http '' > ${top}/gateway.out 2>&1 &
${node} test/chaos/guest-client.mjs ${site.measurement}
echo CLIENTEND
cat ${top}/gateway.out`,
    onLine: (line) => {
      const match = /^([AS]) (\d+) (\d+)$/.exec(line);
      if (match === null) return;
      // 'S first last': handed to the socket; 'A first last': acknowledged.
      const set = match[1] === 'A' ? site.acknowledged : site.sent;
      for (let n = Number(match[2]); n <= Number(match[3]); n++) set.add(n);
    },
  });
  try {
    await until(
      'the guest to acknowledge',
      () => site.acknowledged.size > 0 || undefined,
      90_000,
    ).catch(() => {
      throw new Error(`the guest did not come so far: ${guest.console().slice(-1500)}`);
    });
    await wait(200 + chance() * 2000);
    // In the moment of an acknowledgement: what it stands for has had no time to be written for another reason than an fsync.
    const before = site.acknowledged.size;
    await until(
      'one more acknowledgement',
      () => site.acknowledged.size > before || undefined,
      30_000,
      1,
    );
    await guest.cut();
    copyFrom(image, 'data', join(base, 'copy'));
    // What the client had sent and the console had not said may be there all the same.
    for (let n = 0; n < 5_000_000 && n <= Math.max(0, site.acknowledged.size * 2 + 100_000); n++)
      site.sent.add(n);
    await site.startCollector();
    await site.startGateway();
    return await site.reconcile(site.acknowledged.size > 0);
  } finally {
    await guest.cut();
    await site.stop();
  }
}

export const cut = (chance: Chance): Promise<Result> => trial(chance, '');

/** Control: fsync does nothing. */
export const cutWithoutSync = (chance: Chance): Promise<Result> => trial(chance, WITHOUT_SYNC);
