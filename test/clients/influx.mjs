// InfluxDB's own clients of Node, of 1.x and of 2, against a collector: `influx.mjs HOST:PORT FOLDER`, the folder that they are installed in.
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [, , address, folder] = process.argv;
const require = createRequire(join(folder, 'package.json'));
const { InfluxDB: One, FieldType } = require('influx');
const { InfluxDB: Two, Point } = require('@influxdata/influxdb-client');
const [host, port] = address.split(':');
const T0 = 1_700_000_000_000;

function same(what, found, wanted) {
  if (JSON.stringify(found) !== JSON.stringify(wanted))
    throw new Error(`${what}: ${JSON.stringify(found)}, and not ${JSON.stringify(wanted)}`);
  console.log(what);
}

async function until(what, look) {
  for (let turn = 0; turn < 300; turn++) {
    if (await look()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`not within 30 s: ${what}`);
}

const schema = [
  { measurement: 'node_one', tags: ['room'], fields: { t: FieldType.FLOAT, s: FieldType.STRING } },
];
const one = new One({
  ...{ host, port: Number(port), database: 'headwater', username: 'any', password: 'none', schema },
});
const [ping] = await one.ping(5000);
same('1.x: ping', [ping.online, ping.version.slice(0, 4)], [true, '1.8.']);
same('1.x: databases', await one.getDatabaseNames(), ['headwater']);
const points = Array.from({ length: 20 }, (_, n) => ({
  measurement: 'node_one',
  tags: { room: n % 2 === 0 ? 'a' : "b'c" },
  fields: { t: n, s: `v ${n}` },
  timestamp: new Date(T0 + n * 1000),
}));
await one.writePoints(points, { precision: 'ms' });
const count = async (measurement) =>
  (await one.query(`SELECT count("t") FROM "${measurement}"`))[0]?.count;
await until('what the client of 1.x wrote', async () => (await count('node_one')) === 20);
same('1.x: measurements', (await one.getMeasurements()).includes('node_one'), true);
same('1.x: series', (await one.getSeries({ measurement: 'node_one' })).length, 2);
const grouped = await one.query(
  `SELECT max("t") AS "m" FROM "node_one" WHERE time >= ${T0}ms GROUP BY time(10s), "room" fill(none)`,
);
same(
  '1.x: a maximum by tag and time',
  grouped.groups().map(({ tags, rows }) => [tags.room, rows.map(({ time, m }) => [time - T0, m])]),
  [
    [
      'a',
      [
        [0, 8],
        [10_000, 18],
      ],
    ],
    [
      "b'c",
      [
        [0, 9],
        [10_000, 19],
      ],
    ],
  ],
);
const [row] = await one.query('SELECT "s_text" FROM "node_one" WHERE "room" = $room LIMIT 1', {
  placeholders: { room: "b'c" },
});
same('1.x: a text, by a placeholder', row?.s_text, 'v 1');
const refused = await one.query('DROP SERIES FROM "node_one"').then(
  () => 'answered',
  (error) => (error.message.includes('DROP') ? 'named' : error.message),
);
same('1.x: what is not answered is named', refused, 'named');

const write = new Two({ url: `http://${address}`, token: 'none' }).getWriteApi(
  'any',
  'plant',
  'ms',
);
for (let n = 0; n < 5; n++)
  write.writePoint(
    new Point('node_two')
      .tag('room', 'a')
      .floatField('t', n)
      .timestamp(T0 + n),
  );
await write.close();
await until('what the client of 2 wrote', async () => (await count('node_two')) === 5);
console.log('2: writes, and what it wrote is there');
