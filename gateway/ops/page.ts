/** The gateway's own page: one file without anything from elsewhere, for a browser beside a board without a network. */
import { createHash } from 'node:crypto';
import type { GatewayPart } from '../part.ts';

const SCRIPT = `
const text = (id, value) => { document.getElementById(id).textContent = value; };
const number = (value) => value === null || value === undefined ? 'not known yet' : value.toLocaleString('en');
const bytes = (value) => value === undefined ? 'not known yet' : (value / 1048576).toFixed(1) + ' MiB';
const hours = (value) => value === undefined ? 'not in sight' : value < 1 ? Math.round(value * 60) + ' min' : Math.round(value) + ' h';
async function show() {
  try {
    const state = await (await fetch('api/v1/buffer')).json();
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
        cell.textContent = value;
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

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Headwater gateway</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #1d2733; }
  h1 { font-size: 1.3rem; } h1 small { font-weight: normal; color: #5a6b7d; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem; }
  dt { color: #5a6b7d; } dd { margin: 0; }
  .open { color: #14713d; } .blocked { color: #b3261e; font-weight: bold; }
  table { border-collapse: collapse; width: 100%; font-size: 13px; }
  td, th { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #dde4ea; vertical-align: top; overflow-wrap: anywhere; }
  td:first-child { white-space: nowrap; }
  input { font: inherit; }
</style>
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
<script>${SCRIPT}</script>
</html>
`;

const SCRIPT_HASH = createHash('sha256').update(SCRIPT).digest('base64');

/** Nothing that a device sends is ever read as markup or script. */
const HEADERS = {
  'content-security-policy': `default-src 'none'; script-src 'sha256-${SCRIPT_HASH}'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
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
