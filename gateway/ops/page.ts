/** The gateway's own page: one file without anything from elsewhere, for a browser beside a board without a network. */
import { createHash } from 'node:crypto';
import { HIDDEN } from '../../shared/model/plain.ts';
import type { GatewayPart } from '../part.ts';

const SCRIPT = `
const hidden = new RegExp(${JSON.stringify(HIDDEN)}, 'gu');
const unit = (each) => '\\\\u' + each.charCodeAt(0).toString(16).padStart(4, '0');
const plain = (value) => String(value).replace(hidden, (each) => each.split('').map(unit).join(''));
const text = (id, value) => { document.getElementById(id).textContent = plain(value); };
let aliveMs = Date.now();
function alive(isHere) {
  if (isHere) aliveMs = Date.now();
  document.getElementById('gone').hidden = isHere;
  document.body.className = isHere ? '' : 'away';
  if (!isHere) text('gone', 'The gateway does not answer since ' + new Date(aliveMs).toLocaleString() + '. What is shown is from then; this page goes on by itself.');
}
const number = (value) => value === null || value === undefined ? 'not known yet' : value.toLocaleString('en');
const bytes = (value) => value === undefined ? 'not known yet' : (value / 1048576).toFixed(1) + ' MiB';
const hours = (value) => value === undefined ? 'not in sight' : value < 1 ? Math.round(value * 60) + ' min' : Math.round(value) + ' h';
async function show() {
  try {
    let answered;
    try {
      answered = await fetch('api/v1/buffer', { signal: AbortSignal.timeout(10000) });
    } catch {
      alive(false);
      return;
    }
    alive(true);
    const state = await answered.json();
    if (state.error) throw new Error(state.error.message);
    text('name', state.gateway);
    text('state', state.state === 'open' ? 'takes messages' : 'holds acknowledgements back');
    document.getElementById('state').className = state.state;
    text('why', state.why);
    text('waiting', number(state.waitingMessages) + ' messages, ' + bytes(state.waitingBytes));
    text('history', number(state.historyMessages) + ' messages');
    text('disk', bytes(state.diskBytes) + ' of ' + bytes(state.diskBytesMax));
    text('full', hours(state.hoursUntilFull));
    text('cut', hours(state.hoursIfCut));
    text('lost', number(state.losses) + ' reports, ' + number(state.droppedMessages) + ' dropped, ' + number(state.thinnedMessages) + ' thinned');
    const topic = document.getElementById('topic').value;
    const query = new URLSearchParams({ from: document.getElementById('from').value, limit: '100' });
    if (topic !== '') query.set('topic', topic);
    const answer = await (await fetch('api/v1/query?' + query)).json();
    if (answer.error) throw new Error(answer.error.message);
    const rows = answer.messages.map((message) => {
      const row = document.createElement('tr');
      for (const value of [new Date(message.time).toISOString(), message.topic, message.client, message.payload.slice(0, 200)]) {
        const cell = document.createElement('td');
        cell.textContent = plain(value);
        row.append(cell);
      }
      return row;
    });
    document.getElementById('rows').replaceChildren(...rows);
    text('error', answer.more ? 'The newest 100; there are more.' : '');
  } catch (error) {
    text('error', String(error.message));
  }
}
document.getElementById('ask').addEventListener('submit', (event) => { event.preventDefault(); show(); });
show();
setInterval(show, 2000);
`;

const STYLE = `
  :root { color-scheme: light dark; --ink: #1c2733; --quiet: #536373; --ground: #f3f5f8; --panel: #fff; --line: #dbe1e8; --accent: #0b6189; --good: #14683a; --bad: #a81d15; }
  @media (prefers-color-scheme: dark) { :root { --ink: #e2e9f0; --quiet: #9aaabb; --ground: #10161c; --panel: #182029; --line: #2d3945; --accent: #6cc3e6; --good: #66cf95; --bad: #ff9288; } }
  body { font: 15px/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 64rem; padding: 0 1rem; color: var(--ink); background: var(--ground); overflow-wrap: anywhere; }
  main { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; }
  h1 { font-size: 1.2rem; color: var(--accent); } h1 small { font-weight: normal; }
  dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1.5rem; }
  dt { color: var(--quiet); } dd { margin: 0; }
  .open { color: var(--good); } .blocked, #gone { color: var(--bad); font-weight: bold; }
  .away main { opacity: .75; filter: grayscale(1); }
  table { border-collapse: collapse; width: 100%; font-size: 14px; }
  td, th { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
  th { color: var(--quiet); }
  td:first-child { white-space: nowrap; }
  input, button { font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--line); border-radius: 5px; padding: .2rem .5rem; max-width: 100%; }
`;

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Headwater gateway</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
<p id="gone" role="alert" hidden></p>
<main>
<h1>Gateway <span id="name"></span> <small id="state"></small></h1>
<dl>
  <dt>Why</dt><dd id="why"></dd>
  <dt>Waiting for a collector</dt><dd id="waiting"></dd>
  <dt>Local history</dt><dd id="history"></dd>
  <dt>Disk</dt><dd id="disk"></dd>
  <dt>Full in</dt><dd id="full"></dd>
  <dt>Full in, were the link cut</dt><dd id="cut"></dd>
  <dt>Losses</dt><dd id="lost"></dd>
</dl>
<form id="ask">
  <label>Topic <input id="topic" placeholder="all, or home/#"></label>
  <label>since <input id="from" value="now-1h" size="8"></label>
  <button>Show</button> <span id="error"></span>
</form>
<table><thead><tr><th>Received</th><th>Topic</th><th>Client</th><th>Payload</th></tr></thead><tbody id="rows"></tbody></table>
</main>
<script>${SCRIPT}</script>
</html>
`;

const hashOf = (text: string): string => createHash('sha256').update(text).digest('base64');

/** Nothing that a device sends is ever read as markup or script. */
const HEADERS = {
  'content-security-policy': `default-src 'none'; script-src 'sha256-${hashOf(SCRIPT)}'; style-src 'sha256-${hashOf(STYLE)}'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
  'referrer-policy': 'no-referrer',
};

export const pagePart: GatewayPart<object> = {
  name: 'page',
  open: () => ({}),
  routes: [
    {
      method: 'GET',
      path: '/',
      about: 'The page.',
      right: 'open',
      query: 'any',
      replies: { 200: { about: 'The file.', type: 'text/html' } },
      handle: () => ({ type: 'text/html; charset=utf-8', body: PAGE, headers: HEADERS }),
    },
  ],
};
