/** docs/loss-table.md, from the rows that runs have written to docs/bench/loss.json. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SYSTEMS } from './systems.ts';

export interface LossRow {
  peer: string;
  strike: string;
  seed: number;
  trials: number;
  acknowledged: number;
  lost: number;
  /** Of each trial. */
  lostEach: number[];
  doubled: number;
  /** The longest of the trials, seconds. */
  delayS: number;
  didNotStart: number;
}

export interface LossFile {
  machine: string;
  /** Of the newest row, YYYY-MM-DD. */
  date: string;
  rows: LossRow[];
}

const STRIKES: Record<string, string> = {
  kill: 'kill -9 of the edge under load, the centre is there',
  outage: 'the centre is away while all is published, then back',
  'outage-kill':
    'the same, and kill -9 of the edge up to 2 s after the last acknowledgement, before the centre is back',
  full: "another program fills the edge's disk (ext4, 64 MB) in the middle of the load, the centre is away; kill -9 while it is full; then there is room again",
  power:
    'power cut of the edge under load, up to 10 s after 2,000 acknowledgements or 20 s, the centre is away',
};

const number = (value: number): string => value.toLocaleString('en-US');

function cells({ lost, acknowledged, lostEach, ...row }: LossRow): string {
  const parts = [
    number(acknowledged),
    lost === 0 ? '**0**' : `**${number(lost)}** (${lostEach.map(number).join(' · ')})`,
    number(row.doubled),
    row.didNotStart > 0 ? `did not start ${row.didNotStart} of ${row.trials}` : `${row.delayS} s`,
  ];
  return parts.join(' | ');
}

function table(strike: string, rows: LossRow[]): string {
  const lines = Object.entries(SYSTEMS).map(([name, { title }]) => {
    const row = rows.find((each) => each.peer === name && each.strike === strike);
    return `| ${title} | ${row === undefined ? 'not tried' : row.trials} | ${row === undefined ? ' | | ' : cells(row)} |`;
  });
  return `### \`${strike}\`: ${STRIKES[strike]}\n\n| system | trials | acknowledged | lost (each trial) | doubled | last arrival after |\n|---|---|---|---|---|---|\n${lines.join('\n')}\n`;
}

function settings(): string {
  return Object.entries(SYSTEMS)
    .map(([name, { title, version, layout }]) => {
      const { files } = layout({ folder: 'FOLDER', port: 1883, centre: 8086 });
      // Where it was fetched to is this machine's own.
      const texts = Object.entries(files).map(
        ([file, text]) => `# ${file}\n${text.replace(/(plugin )\S*\//, '$1')}`,
      );
      const block = texts.length === 0 ? 'No setting.\n' : `\`\`\`\n${texts.join('')}\`\`\`\n`;
      return `**\`${name}\`**: ${title}; version: ${version}.\n\n${block}`;
    })
    .join('\n');
}

export function lossPage(root: string): string {
  const file = JSON.parse(readFileSync(join(root, 'docs/bench/loss.json'), 'utf8')) as LossFile;
  const { machine, date, rows } = file;
  return `# The loss table
<!-- Generated from docs/bench/loss.json by \`npm run chaos -- --peer NAME --save\` and \`npm run generate\`: do not edit. -->

What was acknowledged by PUBACK, and what of it reached the centre: Headwater and other tools for the same work, under the same faults.

## Workload

60,000 MQTT messages of QoS 1 (\`{"n":12345}\`; 200 bytes more for the full disk) over four connections, 200 unacknowledged each. The client records an
acknowledgement when its bytes have arrived. In a power cut the client runs beside the edge in the guest, one connection without an end, and its console is the record.
A centre takes what the edge sends and counts copies: for Mosquitto and NATS a subscriber with a persistent session at QoS 1, as a bridge has it; for Telegraf a receiver that
answers InfluxDB's write and counts each point; for Headwater a collector, and its store counts. The centre itself is never killed here. The seed decides when a fault strikes.

"Lost": acknowledged, and not at the centre 40 s after the last arrival there. "Doubled": copies at the centre beyond the first (QoS 1 allows them). "Last arrival after": from when edge
and centre were there again, the longest trial.

## Commands and machine

\`\`\`sh
npm run chaos -- --peer headwater
npm run chaos -- --peer mosquitto-sqlite --fault power
\`\`\`

A row is one such command with \`--save\`; \`--peer\` is one of ${Object.keys(SYSTEMS)
    .map((name) => `\`${name}\``)
    .join(
      ', ',
    )} or \`all\`, \`--rounds\` how many trials (3), \`--seed\` which. What is missing is named, with the command that brings it.
Last written ${date} on ${machine}; power cuts by a guest of QEMU with an ext4 of its own.

## Results

${Object.keys(STRIKES)
  .map((strike) => table(strike, rows))
  .join('\n')}
## What the table does not say

- Few trials: the column says how many, and 0 lost of one says little by itself. For Headwater \`npm run chaos\` and \`npm run sim\` repeat such faults with other seeds; the others' rows were not repeated more often than shown.
- The delays are no comparison: the machine had other work meanwhile, and a power cut's guest is slow by itself, so that each system acknowledged as many as it came to.
- Headwater's copies are counted in the collector's store, behind its removal of doubles; the others' where they are delivered, where QoS 1 allows doubles and a store of one's own may remove them.
- Nothing of speed. A system that keeps each message before its PUBACK is slower than one that does not; \`docs/benchmarks.md\` measures that.
- A kill -9 leaves the page cache to the kernel: a system that writes without fsync looks as good as one that syncs. Only the power cut tells them apart.
- The guest flushes when asked; a disk that lies about fsync makes every system lose. \`headwater prove --cut\` tries yours.
- Mosquitto's and NATS' queues are read by one persistent session, not by a second broker; Telegraf's centre answers at once.
- No cluster: NATS with three replicas survives a kill of one. An edge has one machine.
- NanoMQ is not in it: \`apt-cache\` knows no such Debian package, and it is not in the lists of npm and PyPI packages that were searched; a build from its C source was not tried.
- Versions and settings are those below; others may do better or worse.

## Settings

${settings()}`;
}
