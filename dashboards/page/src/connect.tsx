/** How a first reading gets here: what an empty page shows, and a view of its own. */
import { guidesOf } from './guides.ts';
import { Lines, Panel } from './parts.tsx';

export function Connect() {
  const { hostname } = new URL(document.baseURI);
  return (
    <Panel title="Connect a device">
      <p>
        Devices speak MQTT (3.1.1 or 5, QoS 1) to a <b>gateway</b>, port 1883, or HTTP to this
        address. With <code>headwater up</code> the gateway is on this machine too:{' '}
        <code>{hostname}:1883</code>. An acknowledgement means that the message is on disk; the
        reading is at the front of Sensors a moment later.
      </p>
      {guidesOf(hostname, new URL('.', document.baseURI).href).map(({ title, text }) => (
        <Lines key={title} title={title} text={text} />
      ))}
    </Panel>
  );
}
