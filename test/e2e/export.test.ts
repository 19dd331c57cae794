/** Exports as pyarrow and pandas read them, of a running collector. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { CACHE } from '../support/cache.ts';
import { startCollector, until } from '../support/process.ts';

const PYTHON = join(CACHE, 'lake-python-2/bin/python');
const SCRIPT = `
import json, sys, urllib.request, io
import pyarrow as pa, pyarrow.parquet as pq, pyarrow.ipc as ipc
base = sys.argv[1]
get = lambda f: urllib.request.urlopen(f"{base}/api/v1/export?format={f}").read()
p = pq.read_table(io.BytesIO(get("parquet")))
a = ipc.open_stream(io.BytesIO(get("arrow"))).read_all()
assert p.schema.names == a.schema.names, (p.schema, a.schema)
assert p.schema.field("time").type == a.schema.field("time").type == pa.timestamp("ms", tz="UTC"), (p.schema, a.schema)
assert p.cast(a.schema).equals(a)
p.to_pandas()
print(json.dumps([[r["field"], r["value"], r["value_text"], r["value_bool"], int(r["time"].timestamp() * 1000)] for r in p.to_pylist()]))
`;

it.runIf(existsSync(PYTHON))(
  'pyarrow reads the same of Parquet and of Arrow, with the types that they say',
  async () => {
    const collector = await startCollector();
    const base = `http://${collector.address['http']}`;
    const rows = Array.from(
      { length: 40_000 },
      (_, n) => `mixed n=${n / 8} ${1_700_000_000_000 + n}`,
    );
    for (let at = 0; at < rows.length; at += 20_000)
      await fetch(`${base}/write?precision=ms`, {
        method: 'POST',
        body: rows.slice(at, at + 20_000).join('\n'),
      });
    await fetch(`${base}/write?precision=ms`, {
      method: 'POST',
      body: 'mixed s="a, \\"b\\" ü",b=true 1700000000000\nmixed b=false 1700000000001',
    });
    await until('all of it', async () => {
      const text = await (await fetch(`${base}/api/v1/export?format=csv`)).text();
      return text.split('\r\n').length === 40_000 + 3 + 2 || undefined;
    });
    const read = JSON.parse(
      execFileSync(PYTHON, ['-c', SCRIPT, base], { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 }),
    ) as unknown[][];
    expect(read).toHaveLength(40_003);
    const of = (field: string): unknown[][] => read.filter(([name]) => name === field);
    expect(of('s_text')).toEqual([['s_text', null, 'a, "b" ü', null, 1_700_000_000_000]]);
    expect(of('b_bool').map((row) => row[3])).toEqual([true, false]);
    expect(of('n').map((row) => row[1])).toEqual(rows.map((_, n) => n / 8));
    expect(await collector.kill()).toBe(0);
  },
);
