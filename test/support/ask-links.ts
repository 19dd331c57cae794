/**
 * A process that asks servers at 127.0.0.1 over links whose authorities are those that a process starts with
 * (NODE_EXTRA_CA_CERTS), and prints what each says: [[id, text]]. Arguments: file of the secret, what to ask.
 */
import { HdfsObjects } from '../../collector/lake/hdfs.ts';
import { S3Objects } from '../../collector/lake/s3.ts';
import { send } from '../../collector/stream/delivery/senders.ts';
import { parseDelivery } from '../../collector/stream/delivery/targets.ts';
import { messageOf } from '../../shared/errors.ts';

const [secretFile, list = '[]'] = process.argv.slice(2);

async function ask(link: string, port: number): Promise<void> {
  const base = `https://127.0.0.1:${port}`;
  if (link === 's3') {
    const at = { bucket: 'b', prefix: '', endpoint: base, region: 'us-east-1' };
    await new S3Objects(at).open();
  } else if (link === 'hdfs') await new HdfsObjects({ base, folder: '', user: 'u' }).open();
  else {
    const entry = `webhook: "${base}/x", authorizationFile: ${secretFile}`;
    const [target] = parseDelivery(`deliver: [{ name: a, ${entry} }]`, 'rules.yaml').targets;
    if (target === undefined) throw new Error('no target');
    const time = '2026-01-01T00:00:00Z';
    const words = { rule: 'hot', reason: 'above', message: 'hot', id: 'x' };
    await send(target, { ...words, status: 'firing', time, tags: {} });
  }
}

const asks = JSON.parse(list) as { id: string; link: string; port: number }[];
const said = await Promise.all(
  asks.map(async ({ id, link, port }) => [
    id,
    await ask(link, port).then(() => 'it took everything', messageOf),
  ]),
);
process.stdout.write(JSON.stringify(said));
