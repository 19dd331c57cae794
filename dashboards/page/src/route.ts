/** Which view is shown, with its choices: all of it stands in the address behind `#`, to be kept and sent to others. */
import { useEffect, useState } from 'preact/hooks';

export interface Place {
  view: string;
  choices: URLSearchParams;
}

function here(): Place {
  const [view = '', choices = ''] = location.hash.replace(/^#\/?/, '').split('?');
  return { view: view === '' ? 'sensors' : view, choices: new URLSearchParams(choices) };
}

export function hashOf(view: string, choices: Record<string, string> = {}): string {
  const given = Object.entries(choices).filter(([, value]) => value !== '');
  return given.length === 0
    ? `#/${view}`
    : `#/${view}?${new URLSearchParams(Object.fromEntries(given)).toString()}`;
}

export function usePlace(): Place {
  const [place, setPlace] = useState(here);
  useEffect(() => {
    const listener = (): void => setPlace(here());
    addEventListener('hashchange', listener);
    return () => removeEventListener('hashchange', listener);
  }, []);
  return place;
}

/** Changes some of the choices; typing does not fill the browser's history. */
export function choose(more: Record<string, string>, mode: 'push' | 'replace' = 'push'): void {
  const { view, choices } = here();
  const hash = hashOf(view, { ...Object.fromEntries(choices), ...more });
  if (hash === location.hash) return;
  if (mode === 'push') location.hash = hash;
  else {
    history.replaceState(null, '', hash);
    dispatchEvent(new HashChangeEvent('hashchange'));
  }
}
