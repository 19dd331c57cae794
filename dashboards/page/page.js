// The built-in page. It knows only the public API: /api/v1/series, latest, query and stream.
// Everything that a device sent is put on the page as text, never as markup.
import uPlot from '/uplot.js';

const POINTS_WANTED = 600;
const SERIES_MAX = 60;
/** Positions say where a sensor is; they are not what one opens the page for. */
const POSITION = /^(lat|lon|latitude|longitude|altitude|location)$/i;
const COLOURS = ['#0b6e99', '#c8553d', '#588157', '#8e6bbf', '#c79a1d', '#3a86c8', '#b5446e', '#4f9d9a', '#7a5c3e', '#6c757d'];
const ROUND_MS = [1000, 5000, 10000, 30000, 60000, 300000, 600000, 900000, 1800000, 3600000, 10800000, 21600000, 86400000, 604800000];

const $ = (id) => document.getElementById(id);
const state = { field: '', range: 'all', chosen: '', latest: new Map(), rows: new Map(), plot: undefined, drawn: [], readings: 0, units: new Map() };

const sensorKey = (measurement, tags) => JSON.stringify([measurement, Object.entries(tags).sort()]);

function sensorName(tags) {
  const named = Object.entries(tags).filter(([key]) => key !== 'gateway');
  return named.map(([key, value]) => (named.length === 1 ? value : `${key}=${value}`)).join(' ') || tags.gateway || '';
}

function valueText(value) {
  return typeof value === 'number' ? String(Math.round(value * 1000) / 1000) : String(value);
}

/** The server wants its API token: asked once, kept for this browser's session. */
let asked = false;
function askToken() {
  if (asked) return;
  asked = true;
  const token = window.prompt('This collector asks for its API token');
  if (!token) return;
  document.cookie = `headwater_token=${encodeURIComponent(token)}; SameSite=Strict; path=/`;
  listen();
}

async function get(path) {
  let response = await fetch(path);
  if (response.status === 401) {
    askToken();
    response = await fetch(path);
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error?.message ?? response.statusText);
  return answer;
}

function note(latest) {
  const key = sensorKey(latest.measurement, latest.tags);
  let sensor = state.latest.get(key);
  if (sensor === undefined) state.latest.set(key, (sensor = { measurement: latest.measurement, tags: latest.tags, fields: new Map(), time: 0 }));
  const before = sensor.fields.get(latest.field);
  if (latest.unit !== undefined) state.units.set(`${key} ${latest.field}`, latest.unit);
  if (before === undefined || latest.time >= before.time) sensor.fields.set(latest.field, { value: latest.value, time: latest.time });
  sensor.time = Math.max(sensor.time, latest.time);
  return key;
}

function fields() {
  const counts = new Map();
  for (const sensor of state.latest.values()) {
    for (const [name, { value }] of sensor.fields) if (typeof value === 'number') counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const rank = (name) => (POSITION.test(name) ? 1 : 0);
  return [...counts].sort(([a, n], [b, m]) => rank(a) - rank(b) || m - n || (a < b ? -1 : 1)).map(([name]) => name);
}

function showFields() {
  const names = fields();
  const select = $('field');
  if (names.join() === [...select.options].map((option) => option.value).join()) return;
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  if (!names.includes(state.field)) state.field = names[0] ?? '';
  select.value = state.field;
}

function cell(text, className = '') {
  const element = document.createElement('td');
  element.textContent = text;
  element.className = className;
  return element;
}

function showSensors() {
  // Those that measure the chosen field come first.
  const has = (sensor) => (sensor.fields.has(state.field) ? 0 : 1);
  const sensors = [...state.latest].sort(([, a], [, b]) => has(a) - has(b) || (a.measurement + sensorName(a.tags)).localeCompare(b.measurement + sensorName(b.tags), 'en', { numeric: true }));
  $('count').textContent = String(sensors.length);
  $('value-head').textContent = state.field || 'Value';
  state.rows.clear();
  $('sensors').replaceChildren(
    ...sensors.map(([key, { measurement, tags, fields, time }]) => {
      const row = document.createElement('tr');
      const value = fields.get(state.field)?.value;
      row.append(cell(measurement), cell(sensorName(tags), 'name'), cell(value === undefined ? '–' : `${valueText(value)} ${state.units.get(`${key} ${state.field}`) ?? ''}`.trimEnd(), 'number'), cell(new Date(time).toLocaleString([], { dateStyle: 'short', timeStyle: 'medium' }), 'time'));
      row.classList.toggle('chosen', key === state.chosen);
      row.title = Object.entries(tags).map(([name, each]) => `${name}: ${each}`).join('\n');
      row.addEventListener('click', () => choose(key));
      state.rows.set(key, row);
      return row;
    }),
  );
  $('summary').textContent = `${sensors.length} sensors, ${sensors.reduce((sum, [, { fields }]) => sum + fields.size, 0)} series`;
}

function choose(key) {
  state.chosen = state.chosen === key ? '' : key;
  const sensor = state.latest.get(state.chosen);
  if (sensor !== undefined && !sensor.fields.has(state.field)) {
    const [first] = [...sensor.fields].filter(([name, { value }]) => typeof value === 'number' && !POSITION.test(name)).map(([name]) => name);
    if (first !== undefined) $('field').value = state.field = first;
  }
  $('clear').hidden = state.chosen === '';
  showSensors();
  void draw();
}

/** The data's own range for "all", else back from its newest point. */
async function rangeOf() {
  const newest = Math.max(...[...state.latest.values()].map(({ fields }) => fields.get(state.field)?.time ?? 0));
  if (state.range !== 'all') return [newest - Number(state.range), newest + 1];
  const { series } = await get(`/api/v1/query?${new URLSearchParams({ field: state.field, fn: 'first' })}`);
  return [Math.min(newest, ...series.flatMap(({ points }) => points.map(([time]) => time))), newest + 1];
}

/** Answers that are overtaken by a newer question are left aside. */
let question = 0;

function widthText(ms) {
  for (const [unit, size] of [['d', 86400000], ['h', 3600000], ['min', 60000]]) if (ms >= size) return `${ms / size} ${unit}`;
  return `${ms / 1000} s`;
}

async function draw() {
  if (state.field === '') return;
  const asked = ++question;
  const [from, to] = await rangeOf();
  const every = ROUND_MS.find((ms) => (to - from) / ms <= POINTS_WANTED) ?? 2592000000;
  const parameters = new URLSearchParams({ field: state.field, from: String(Math.floor(from)), to: String(Math.ceil(to)) });
  const raw = to - from < 300000;
  if (!raw) {
    parameters.set('every', String(every));
    parameters.set('fn', 'mean');
  }
  const sensor = state.latest.get(state.chosen);
  if (sensor !== undefined) {
    parameters.set('measurement', sensor.measurement);
    for (const [key, value] of Object.entries(sensor.tags)) parameters.set(`tag.${key}`, value);
  }
  const { series } = await get(`/api/v1/query?${parameters}`);
  if (asked !== question) return;
  const shown = series.filter(({ points }) => typeof points[0]?.[1] === 'number').slice(0, SERIES_MAX);
  $('note').textContent = `${shown.length} series${raw ? '' : `, mean of each ${widthText(every)}`}${series.length > shown.length ? `; ${series.length - shown.length} more are not drawn` : ''}`;
  const times = [...new Set(shown.flatMap(({ points }) => points.map(([time]) => time)))].sort((a, b) => a - b);
  const index = new Map(times.map((time, at) => [time, at]));
  const columns = shown.map(({ points }) => {
    const column = new Array(times.length).fill(null);
    for (const [time, value] of points) column[index.get(time)] = value;
    return column;
  });
  state.drawn = shown;
  state.plot?.destroy();
  const ink = getComputedStyle(document.body).color;
  const axis = { stroke: ink, grid: { stroke: '#88888833', width: 1 }, ticks: { stroke: '#88888833' } };
  state.plot = new uPlot(
    {
      width: $('chart').clientWidth,
      height: 360,
      axes: [axis, { ...axis, label: state.field, size: 60 }],
      series: [{}, ...shown.map(({ tags }, at) => ({ label: sensorName(tags), stroke: COLOURS[at % COLOURS.length], width: 1, spanGaps: raw, points: { show: times.length < 60 } }))],
      cursor: { focus: { prox: 24 } },
    },
    [times.map((time) => time / 1000), ...columns],
    $('chart'),
  );
}

let dirty = false;
function soon() {
  if (dirty) return;
  dirty = true;
  setTimeout(() => {
    dirty = false;
    showFields();
    showSensors();
    for (const key of fresh) state.rows.get(key)?.classList.add('fresh');
    setTimeout(() => { for (const row of state.rows.values()) row.classList.remove('fresh'); }, 1500);
    fresh.clear();
    void draw().catch(report);
  }, 400);
}
const fresh = new Set();

function arrived({ gateway, count, readings }) {
  state.readings += count;
  $('live').textContent = `${state.readings.toLocaleString('en')} ${state.readings === 1 ? 'reading' : 'readings'} since this page opened`;
  for (const { measurement, tags, fields, time } of readings) {
    for (const [field, value] of Object.entries(fields)) fresh.add(note({ measurement, field, tags, time, value }));
  }
  for (const { measurement, tags, fields, time } of readings.slice(-6)) {
    const line = document.createElement('li');
    const values = Object.entries(fields).map(([name, value]) => `${name}=${valueText(value)}`).join(' ');
    line.textContent = `${new Date(time).toLocaleTimeString()}  ${measurement}  ${sensorName(tags) || gateway}  ${values}`;
    $('arrivals').prepend(line);
  }
  while ($('arrivals').children.length > 6) $('arrivals').lastChild.remove();
  soon();
}

function report(error) {
  $('summary').textContent = `cannot load: ${error.message}`;
}

async function start() {
  const { series } = await get('/api/v1/latest');
  for (const point of series) note(point);
  showFields();
  showSensors();
  await draw();
}

$('field').addEventListener('change', () => { state.field = $('field').value; showSensors(); void draw().catch(report); });
$('range').addEventListener('change', () => { state.range = $('range').value; void draw().catch(report); });
$('clear').addEventListener('click', () => choose(state.chosen));
window.addEventListener('resize', () => state.plot?.setSize({ width: $('chart').clientWidth, height: 360 }));
/** What could not be read is no secret: a count, and on demand the newest of it with the reasons. */
async function watchQuarantine() {
  const open = !$('aside').hidden;
  const topic = $('aside-topic').value.trim();
  const parameters = new URLSearchParams({ limit: open ? '100' : '1', ...(topic === '' ? {} : { topic }) });
  const { count, items, reasons } = await get(`/api/v1/quarantine?${parameters}`);
  $('quarantine').hidden = count === 0 && !open;
  $('quarantine').textContent = `${count.toLocaleString('en')} in quarantine`;
  const [newest] = items;
  $('quarantine').title = newest === undefined ? '' : `${newest.topic}: ${newest.reason}`;
  if (!open) return;
  $('reasons').replaceChildren(...reasons.slice(0, 8).map(({ reason, count: times }) => {
    const line = document.createElement('li');
    line.textContent = `${times.toLocaleString('en')} × ${reason}`;
    return line;
  }));
  $('aside-items').replaceChildren(...items.map((item) => {
    const row = document.createElement('tr');
    const payload = item.encoding === 'utf8' ? item.payload : `(${item.encoding}) ${item.payload}`;
    const shown = payload.length > 200 ? `${payload.slice(0, 200)} …` : payload;
    for (const text of [new Date(item.receivedMs).toLocaleString(), item.gateway, item.topic, item.reason, shown]) {
      const cell = document.createElement('td');
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  }));
}

async function post(path, body) {
  const response = await fetch(path, { method: 'POST', body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error?.message ?? response.statusText);
  return answer;
}

/** Decodes what is in quarantine again, and says what came of it. */
async function decodeAgain() {
  const topic = $('aside-topic').value.trim();
  const say = (text) => { $('again-result').textContent = text; };
  say('decoding …');
  try {
    const { id } = await post('/api/v1/replay', topic === '' ? {} : { topic });
    for (;;) {
      const { jobs } = await get('/api/v1/replay');
      const job = jobs.find((each) => each.id === id);
      if (job?.finished) {
        say(`${job.readings.toLocaleString('en')} readings of ${job.messages.toLocaleString('en')} messages; ${job.quarantined.toLocaleString('en')} still cannot be decoded`);
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  } catch (error) {
    say(error.message);
  }
  await watchQuarantine();
}

$('quarantine').addEventListener('click', () => {
  $('aside').hidden = !$('aside').hidden;
  $('quarantine').setAttribute('aria-expanded', String(!$('aside').hidden));
  void watchQuarantine().catch(report);
});
$('aside-topic').addEventListener('change', () => void watchQuarantine().catch(report));
$('again').addEventListener('submit', (event) => {
  event.preventDefault();
  void decodeAgain().catch(report);
});

function listen() {
  const stream = new EventSource('/api/v1/stream?newest=200');
  stream.addEventListener('readings', (event) => arrived(JSON.parse(event.data)));
}
listen();
start().catch(report);
watchQuarantine().catch(report);
setInterval(() => void watchQuarantine().catch(report), 5000);
