/** A process as a list of parts, and what is made of the list: routes, their description, metrics, health. */
import { describe, expect, it } from 'vitest';
import { COLLECTOR_SIDE } from '../../collector/api/http.ts';
import { COLLECTOR_PARTS } from '../../collector/collector.ts';
import { GATEWAY_PARTS } from '../../gateway/gateway.ts';
import { GATEWAY_SIDE } from '../../gateway/ops/http.ts';
import { descriptionOf } from '../../shared/parts/http.ts';
import { checkParameters, parseFields, type Parameters } from '../../shared/http/route.ts';
import { Site, endpointsOf, type Part } from '../../shared/parts/site.ts';
import { blockedBy } from '../../shared/telemetry/health.ts';
import { Histogram } from '../../shared/telemetry/histogram.ts';
import { counter, histogram } from '../../shared/telemetry/metrics.ts';

const SIDES = [
  ['collector', COLLECTOR_PARTS, COLLECTOR_SIDE],
  ['gateway', GATEWAY_PARTS, GATEWAY_SIDE],
] as const;

function recording(name: string, said: string[], rest: Partial<Part<object, object>> = {}) {
  const part: Part<object, object> = {
    name,
    open: () => {
      said.push(`open ${name}`);
      return {};
    },
    start: async () => {
      said.push(`start ${name}`);
    },
    close: () => {
      said.push(`close ${name}`);
    },
    ...rest,
  };
  return part;
}

describe('parts', () => {
  it('open in order, then start in order, and close in reverse, once', async () => {
    const said: string[] = [];
    const site = new Site({}, [recording('a', said), recording('b', said)]);
    await site.start();
    await site.close();
    await site.close();
    expect(said).toEqual(['open a', 'open b', 'start a', 'start b', 'close b', 'close a']);
  });

  it('one that cannot open or start closes those before it, and its sentence is what is heard', async () => {
    const said: string[] = [];
    const broken = recording('b', said, { start: () => Promise.reject(new Error('no disk')) });
    const site = new Site({}, [recording('a', said), broken, recording('c', said)]);
    await expect(site.start()).rejects.toThrow('no disk');
    expect(said).toEqual([
      'open a',
      'open b',
      'open c',
      'start a',
      'close c',
      'close b',
      'close a',
    ]);
  });

  it('closed while it opens, what opens late is closed, and nothing starts; until then it says what it closes', async () => {
    const said: string[] = [];
    let open: (running: object) => void = () => undefined;
    let close: () => void = () => undefined;
    const slow = recording('b', said, {
      open: () => new Promise((resolve) => (open = resolve)),
    });
    const stuck = recording('a', said, {
      close: () => new Promise((resolve) => (close = resolve)),
      health: () => [{ name: 'a', why: 'nobody answers', isEssential: false }],
    });
    const site = new Site({}, [stuck, slow, recording('c', said)]);
    const started = site.start();
    await Promise.resolve();
    const closed = site.close();
    expect(site.waitsFor).toBe("'a' (nobody answers)");
    open({});
    close();
    await expect(started).rejects.toThrow('stopped while it started');
    await closed;
    expect([said, site.waitsFor]).toEqual([['open a', 'close b'], undefined]);
  });

  it('one that cannot close keeps none of the others from it', async () => {
    const said: string[] = [];
    const broken = recording('b', said, { close: () => Promise.reject(new Error('stuck')) });
    const site = new Site({}, [recording('a', said), broken, recording('c', said)]);
    await site.start();
    await expect(site.close()).rejects.toThrow('stuck');
    expect(said.slice(-2)).toEqual(['close c', 'close a']);
  });

  it('a part of another role, and one that has nothing to do, are not there: no metrics, no health, routes that say so', async () => {
    const route = {
      method: 'GET',
      path: '/x',
      about: 'X.',
      right: 'open',
      replies: {},
      handle: () => undefined,
    } as const;
    const table = { headwater_x_total: counter('X.', () => 1) };
    const health = () => [{ name: 'x', why: 'never', isEssential: true }];
    const said: string[] = [];
    const elsewhere = recording('a', said, {
      roles: ['store'],
      routes: [route],
      metrics: table,
      health,
    });
    const idle = recording('b', said, { open: () => undefined, metrics: table, health });
    const site = new Site({}, [elsewhere, idle], new Set(['decode']));
    await site.start();
    expect([site.find(elsewhere), site.find(idle), said]).toEqual([undefined, undefined, []]);
    expect(site.metrics()).toBe('');
    expect(blockedBy(site.health())).toBeUndefined();
    expect(site.endpoints()).toMatchObject([{ running: undefined, absent: /'a'.*role store/ }]);
    expect(() => site.get(idle)).toThrow(/bug/);
  });

  it('a histogram is cumulative, has sum and count, and takes no NaN', async () => {
    const times = new Histogram([0.1, 1]);
    for (const value of [0.05, 0.1, 0.5, 7, Number.NaN]) times.observe(value);
    const site = new Site({}, [
      recording('a', [], { metrics: { headwater_x_seconds: histogram('X.', () => times) } }),
    ]);
    await site.start();
    expect(site.metrics()).toBe(
      [
        '# HELP headwater_x_seconds X.',
        '# TYPE headwater_x_seconds histogram',
        'headwater_x_seconds_bucket{le="0.1"} 2',
        'headwater_x_seconds_bucket{le="1"} 3',
        'headwater_x_seconds_bucket{le="+Inf"} 4',
        'headwater_x_seconds_sum 7.65',
        'headwater_x_seconds_count 4',
        '',
      ].join('\n'),
    );
  });
});

describe.each(SIDES)('%s', (_name, parts, side) => {
  const routes = endpointsOf(parts).map(({ route }) => route);

  it('every metric is declared once, in the form that Prometheus asks for, with a help text', () => {
    const all = parts.flatMap(({ metrics = {} }) => Object.entries(metrics));
    const names = all.map(([name]) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const [name, { type, help }] of all) {
      expect(name).toMatch(/^headwater_[a-z0-9_]+$/);
      expect(name.endsWith('_total'), name).toBe(type === 'counter');
      expect(help.length, name).toBeGreaterThan(10);
    }
  });

  it('no route is without a description: of itself, every parameter, every field and every reply', () => {
    for (const route of routes) {
      const name = `${route.method} ${route.path}`;
      expect(route.about, name).toMatch(/^[A-Z].+\.$/);
      const described: Parameters[] = [
        route.query === 'any' ? {} : (route.query ?? {}),
        route.headers ?? {},
        route.body !== undefined && 'fields' in route.body ? route.body.fields : {},
      ];
      for (const [parameter, { about }] of described.flatMap((each) => Object.entries(each)))
        expect(about, `${name} ${parameter}`).toMatch(/\w/);
      expect(Object.keys(route.replies).length, name).toBeGreaterThan(0);
      for (const { about } of Object.values(route.replies)) expect(about, name).toMatch(/\w/);
      if (route.method === 'POST') expect(route.body, name).toBeDefined();
      // What holds data is described down to its fields, or is a stream or a text.
      if (route.right !== 'open' && route.replies[200] !== undefined)
        expect(route.replies[200].schema ?? route.replies[200].type, name).toBeDefined();
    }
  });

  it('each method and path is there once, and OpenAPI has exactly them', () => {
    const names = routes.map(({ method, path }) => `${method} ${path}`);
    expect(new Set(names).size).toBe(names.length);
    const { paths } = descriptionOf(side, parts);
    const described = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(described.sort()).toEqual(names.sort());
  });
});

describe('parameters', () => {
  const known: Parameters = {
    topic: { about: 'A topic.', required: true },
    limit: { about: 'So many.', integer: { min: 1, max: 10 } },
    which: { about: 'Which.', choices: ['a', 'b'] },
    tag: { about: 'Tags.', isMap: true },
  };
  const check = (text: string) => () => checkParameters(known, new URLSearchParams(text));

  it('what is known and as it has to be is taken', () => {
    expect(check('topic=x&limit=10&which=b&tag.room=1&tag.a.b=2')).not.toThrow();
    expect(parseFields('{"topic":"x","limit":3}', known)).toEqual({ topic: 'x', limit: '3' });
  });
  it.each([
    ['', /topic is missing/],
    ['topic=x&nope=1', /'nope' is not known here; known are topic, limit, which, tag.KEY/],
    ['topic=x&tag=1', /'tag' is not known/],
    ['topic=x&topic.a=1', /'topic.a' is not known/],
    ['topic=x&constructor=1', /'constructor' is not known/],
    ['topic=x&__proto__.a=1', /'__proto__.a' is not known/],
    ['topic=x&limit=11', /limit=11 is not a number from 1 to 10/],
    ['topic=x&limit=1e0', /limit=1e0 is not a number/],
    ['topic=x&limit=', /limit= is not a number/],
    ['topic=x&which=c', /which=c is not one of a, b/],
  ])('%s is refused in one sentence', (text, sentence) => {
    expect(check(text)).toThrow(sentence);
  });
  it.each([
    ['{', /not JSON/],
    ['[]', /not an object/],
    ['{"topic":{}}', /'topic' is not a text/],
    ['{"nope":"1"}', /'nope' is not known/],
    ['{"__proto__":"1","topic":"x"}', /'__proto__' is not known/],
  ])('body %s is refused', (text, sentence) => {
    expect(() => parseFields(text, known)).toThrow(sentence);
  });
});
