/** The collector's page: top line, banner, and the view that the address names. */
import 'uplot/dist/uPlot.min.css';
import '../page.css';
import { render, type ComponentType } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { AlertsView } from './alerts.tsx';
import { Connect } from './connect.tsx';
import { DashboardsView } from './dashboards.tsx';
import { GatewaysView, LedgerView } from './fleet.tsx';
import { keepToken } from './net.ts';
import { QuarantineView } from './quarantine.tsx';
import { usePlace, type Place } from './route.ts';
import { SensorsView } from './sensors.tsx';
import { begin, useStore } from './store.ts';
import { Banner, TopLine, worstOf } from './top.tsx';
import { TopicsView } from './topics.tsx';
import { LakeView, StatusView } from './work.tsx';

interface View {
  name: string;
  title: string;
  show: ComponentType<{ place: Place }>;
}

const FIRST: View = { name: 'sensors', title: 'Sensors', show: SensorsView };
const VIEWS: View[] = [
  FIRST,
  { name: 'dashboards', title: 'Dashboards', show: DashboardsView },
  { name: 'gateways', title: 'Gateways', show: GatewaysView },
  { name: 'ledger', title: 'Ledger', show: LedgerView },
  { name: 'quarantine', title: 'Quarantine', show: QuarantineView },
  { name: 'topics', title: 'Topics', show: TopicsView },
  { name: 'alerts', title: 'Rules and alerts', show: AlertsView },
  { name: 'lake', title: 'Lake and batches', show: LakeView },
  { name: 'status', title: 'Status', show: StatusView },
  { name: 'connect', title: 'Connect a device', show: Connect },
];

function AskToken({ isRefused }: { isRefused: boolean }) {
  const [token, setToken] = useState('');
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  return (
    <form
      class="panel ask"
      onSubmit={(event) => {
        event.preventDefault();
        keepToken(token);
        setToken('');
        begin();
      }}
    >
      {isRefused && (
        <p role="alert" class="bad">
          The token that was given is not accepted: it is wrong, or does not hold any more.
        </p>
      )}
      <label>
        This collector asks for an API token{' '}
        <input
          ref={field}
          type="password"
          autocomplete="off"
          value={token}
          onInput={(event) => setToken(event.currentTarget.value)}
        />
      </label>
      <button type="submit">Enter</button>
      <p class="quiet">It is kept for this browser's session.</p>
    </form>
  );
}

function App() {
  const place = usePlace();
  const { connection, needsToken, tokenRefused, refused } = useStore();
  const worst = worstOf();
  const view = VIEWS.find(({ name }) => name === place.view) ?? FIRST;
  useEffect(() => {
    document.title = `${worst === '' ? '' : `⚠ ${worst} · `}${view.title} – Headwater`;
  }, [view, worst]);
  const views = useRef<HTMLElement>(null);
  // On a phone the row of views is wider than the screen.
  useEffect(() => {
    const here = views.current?.querySelector('[aria-current]');
    here?.scrollIntoView({ block: 'nearest', inline: 'center' });
  }, [view]);
  const Shown = view.show;
  return (
    <div class={connection}>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById('main')?.focus();
        }}
      >
        Skip to the view
      </a>
      <header>
        <h1>Headwater</h1>
        <nav aria-label="Views" ref={views}>
          {VIEWS.map(({ name, title }) => (
            <a key={name} href={`#/${name}`} aria-current={name === view.name ? 'page' : undefined}>
              {title}
            </a>
          ))}
        </nav>
      </header>
      <TopLine />
      <Banner />
      <main id="main" tabIndex={-1}>
        {needsToken ? <AskToken isRefused={tokenRefused} /> : <Shown place={place} />}
        {refused !== '' && !needsToken && (
          <p role="alert" class="bad">
            The values cannot be read: {refused}
          </p>
        )}
      </main>
    </div>
  );
}

const root = document.getElementById('app') as HTMLElement; // Stands in index.html.
root.replaceChildren();
render(<App />, root);
begin();
